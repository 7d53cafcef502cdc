"""The mark of trust that is not for production.

The in-process Sigstore used by demonstrations and tests puts this name into every certificate and service entry. A verifier
that finds it says so (`assurance.development`) and refuses to call the evidence verified unless it was told to accept it.
"""

DEVELOPMENT_OPERATOR = "Sealgate DEVELOPMENT - not for production"
