"""Secrets: references in the configuration, bytes only at the moment of use.

    secret.py    a secret in memory that is not shown by accident
    resolve.py   env:, file: (plain or age-encrypted), and providers registered for further schemes
    command.py   short-lived passwords that a program prints, for each connection

Settings hold only references. A secret is read again at every use, so that rotating it needs no restart, and is never logged.
"""

from gateway.secrets.command import run_password_command
from gateway.secrets.resolve import MAX_SECRET_BYTES, Provider, SecretResolver
from gateway.secrets.secret import Secret

__all__ = ["MAX_SECRET_BYTES", "Provider", "Secret", "SecretResolver", "run_password_command"]
