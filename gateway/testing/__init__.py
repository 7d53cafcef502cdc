"""Public helpers for tests and demonstrations: real servers, a development Sigstore and OIDC issuer, certificates, waiting for a condition."""
