"""Identity: a token in, a subject out. OpenID Connect access tokens of configured issuers.

envelope.py    takes a token apart, in one spelling only
fetch.py       an issuer's discovery document and keys over HTTPS
keys.py        which keys may be used, and for how long
claims.py      for whom and when a token was made; the subject it proves
tokens.py      TokenVerifier: all of the above
reviewers.py   who may review
"""

from gateway.identity.reviewers import require_reviewer, with_reviewer_groups
from gateway.identity.tokens import TokenVerifier, check_live

__all__ = ["TokenVerifier", "check_live", "require_reviewer", "with_reviewer_groups"]
