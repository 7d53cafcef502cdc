"""sealgate.yaml: every problem at once, each with its line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import find_warnings, load_config, parse_config, resolved_view, summarize
from gateway.errors import ConfigError

VECTORS = Path(__file__).parents[1] / "vectors" / "config"
MINIMAL = (VECTORS / "minimal.txt").read_text().partition("-----\n")[0]


def parse(text, base="/etc/sealgate"):
    return parse_config(text.encode(), base_folder=Path(base))


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.txt")), ids=lambda path: path.stem)
def test_problems(path):
    text, _, expected = path.read_text().partition("-----\n")
    found = ()
    try:
        parse(text)
    except ConfigError as error:
        found = error.problems
    assert list(found) == expected.splitlines()


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_paths_are_relative_to_the_file(tmp_path):
    path = tmp_path / "sealgate.yaml"
    path.write_text(MINIMAL)
    config = load_config(path)
    assert config.policy.bundle == tmp_path / "rego"
    assert config.evidence.store == tmp_path / "evidence"
    assert config.evidence.log_key == f"file:{tmp_path}/log-key.pem"
    assert config.gateway.state == f"sqlite:///{tmp_path}/sealgate-state.db"
    assert config.connections[0].credential.password == "env:PAYMENTS_PASSWORD"


def test_absolute_paths_stay():
    config = parse(
        MINIMAL.replace("store: evidence", "store: /var/lib/evidence").replace("file:log-key.pem", "file:/keys/log.pem")
    )
    assert config.evidence.store == Path("/var/lib/evidence")
    assert config.evidence.log_key == "file:/keys/log.pem"


def test_no_problem_repeats_a_value_that_may_be_a_secret():
    text = MINIMAL.replace("env:PAYMENTS_PASSWORD", "correct-horse-battery").replace("file:log-key.pem", "file-staple-key")
    with pytest.raises(ConfigError) as caught:
        parse(text.replace("6432}", "6432, bind: swordfish-token}"))
    for word in ("correct-horse", "staple-key", "swordfish"):
        assert word not in str(caught.value)
    assert len(caught.value.problems) == 3


def test_a_connection_is_found_by_any_of_its_database_names():
    config = parse(MINIMAL.replace("    type: postgres", "    type: postgres\n    match: {databases: [pay, pay_ro]}"))
    connection = config.find_database("pay_ro")
    assert connection is not None
    assert connection.name == "payments"
    assert config.find_database("payments") is None
    assert connection.target_database("pay_ro") == "pay_ro"


def test_only_listed_groups_may_connect():
    connection = parse(MINIMAL).connections[0]
    assert connection.admits(["agents", "x"])
    assert not connection.admits(["Agents"])
    assert not connection.admits([])
    everyone = parse(MINIMAL.replace("[agents]", "['*']")).connections[0]
    assert everyone.admits([])


def test_weak_settings_are_warned_about():
    text = MINIMAL.replace("{host: db.example.com}", "{host: db.example.com, tls: {mode: require}}").replace(
        "  admin: {port: 8444}\n", ""
    )
    warnings = "\n".join(find_warnings(parse(text)))
    for part in ("development", "masking.key", "listeners.admin", "tls mode require"):
        assert part in warnings
    assert "no reviewer can sign" not in warnings
    assert any("no reviewer can sign an approval" in warning for warning in find_warnings(parse(MINIMAL)))


def test_the_view_shows_defaults_and_references():
    config = parse(MINIMAL)
    settings = resolved_view(config)["settings"]
    assert settings["limits"]["max_sql_bytes"] == 1_048_576
    assert settings["connections"][0]["credential"]["password"] == "env:PAYMENTS_PASSWORD"
    text = "\n".join(summarize(config, rules=12))
    assert "enforcing 12 rules" in text
    assert "connection payments: postgres db.example.com:5432" in text


@given(st.binary(max_size=400))
def test_any_bytes_give_settings_or_problems(data):
    with pytest.raises(ConfigError) as caught:
        parse_config(data, base_folder=Path("/"))
    assert caught.value.problems


LINES = MINIMAL.splitlines(keepends=True)


@given(st.integers(0, len(LINES) - 1), st.text(max_size=30))
def test_any_changed_line_gives_settings_or_problems(index, replacement):
    text = "".join([*LINES[:index], replacement, "\n", *LINES[index + 1 :]])
    problems = ["none"]
    try:
        parse_config(text.encode("utf-8", "surrogatepass"), base_folder=Path("/"))
    except ConfigError as error:
        problems = error.problems
    assert problems


@given(st.permutations(range(4)))
def test_problems_are_reported_together_and_in_file_order(order):
    changes = [
        ("gw-a.example.com", "BAD NAME"),
        ("port: 6432", "port: 99999"),
        ("mode: development", "mode: other"),
        ("[agents]", "[]"),
    ]
    text = MINIMAL
    for index in order:
        text = text.replace(*changes[index])
    with pytest.raises(ConfigError) as caught:
        parse(text)
    lines = [int(problem.split(",")[0].removeprefix("line ")) for problem in caught.value.problems]
    assert len(lines) == 4
    assert lines == sorted(lines)
