"""mitmproxy addons: thin, one per protocol carried by HTTP; each hands what it sees to `gateway.pipeline`."""
