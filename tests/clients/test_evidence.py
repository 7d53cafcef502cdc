"""The evidence a gateway leaves after serving stock clients verifies offline, with sealed inputs opened and verdicts recomputed."""

import psycopg
import pytest
from psycopg import errors

from evidence.keys import load_log_key
from evidence.note import NoteSigner
from evidence.store import EvidenceStore
from evidence.trust import IdentityRule, SigstoreTrust
from evidence.verify import verify_directory
from evidence.verify_trust import TrustPolicy
from gateway.policy.verdicts import VerdictRecomputer
from gateway.testing.sigstore import DEFAULT_ISSUER


@pytest.fixture
def served(make_gateway, authority, mint, tmp_path):
    """A stopped gateway that has served reads, masks, denials, errors, parameters and refused logins."""
    with make_gateway(tmp_path) as running:
        options = {
            "host": "localhost",
            "port": running.port,
            "dbname": "shop",
            "user": "agent",
            "password": mint(),
            "sslmode": "verify-full",
            "sslrootcert": str(authority.ca_file),
            "autocommit": True,
        }
        with psycopg.connect(**options) as connection:
            connection.execute("select name, ssn from customers").fetchall()
            connection.execute("select 'card 4111111111111111'").fetchall()
            connection.execute("update orders set amount = amount where id = %s", (3,))
            for statement, error in (
                ("delete from orders", errors.InsufficientPrivilege),
                ("update accounts set balance = 0", errors.InsufficientPrivilege),
                ("select 1/0", errors.DivisionByZero),
                ("set search_path to nowhere", psycopg.Error),
            ):
                with pytest.raises(error):
                    connection.execute(statement)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(**{**options, "password": "no token"})
    return running


def test_it_verifies_and_every_verdict_is_recomputed(served):
    section = served.config.evidence
    folder = section.store.parent
    (origin,) = EvidenceStore(section.store).list_origins()
    key = load_log_key(folder / "log-key.pem")
    trust = TrustPolicy(
        sigstore=SigstoreTrust((section.store / "development-sigstore/trust_config.json").read_text()),
        log_keys=(NoteSigner(origin, key).verifier_key,),
        gateway=(IdentityRule("*", DEFAULT_ISSUER),),
        accept_development=True,
    )
    archives = list((section.store / origin / "policy").iterdir())
    ages = [(folder / "auditor.age").read_text()]
    with VerdictRecomputer(archives) as recompute:
        report = verify_directory(section.store, trust, age_identities=ages, recompute=recompute)
    assert report.exit_code == 0, report.findings
    assert report.counts.get("recomputed_same", 0) >= 8
    assert "recomputed_different" not in report.counts
