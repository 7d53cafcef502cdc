"""What `sealgate validate` shows: the settings in force, defaults filled in. Secrets appear only as references."""

from __future__ import annotations

from typing import Any

from gateway.config.load import Config, find_warnings


def resolved_view(config: Config) -> dict[str, Any]:
    """Every setting in force as plain JSON values, and the warnings.

    The configuration holds references to secrets, never secrets, so nothing has to be hidden.
    """
    return {"settings": config.model_dump(mode="json"), "warnings": list(find_warnings(config))}


def summarize(config: Config, *, rules: int | None = None) -> list[str]:
    """The configuration in a few lines for a person.

    Args:
        config: the settings in force.
        rules: how many policy rules the bundle holds; None when it was not loaded.
    """
    enforcing = "enforcing a policy that was not loaded" if rules is None else f"enforcing {rules} rules"
    lines = [f"gateway {config.gateway.name}, {enforcing} ({config.policy.engine}, {config.policy.bundle})"]
    for name, listener in config.listeners:
        if listener is not None:
            port = "a port the kernel chooses" if listener.port == 0 else f"port {listener.port}"
            lines.append(
                f"listener {name}: {listener.bind}, {port}, {'SSH' if name == 'ssh' else 'plain' if listener.tls is None else 'TLS'}"
            )
    lines += [
        f"issuer {issuer.alias}: {issuer.issuer}, audience {', '.join(issuer.audience)}" for issuer in config.identity.issuers
    ]
    for connection in config.connections:
        lines.append(
            f"connection {connection.name}: {connection.type} {connection.describe_target()}, {connection.environment}, "
            f"risk {connection.risk}, for {', '.join(connection.allow_groups)}{connection.describe_protection()}"
        )
    lines.append(f"evidence in {config.evidence.store}, Sigstore {config.evidence.sigstore.mode}")
    return lines
