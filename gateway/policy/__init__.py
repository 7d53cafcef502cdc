"""The decision point: engines, bundles, evaluator processes and the cache. Start at `gateway.policy.decide`."""
