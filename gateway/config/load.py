"""Loads sealgate.yaml: values, types, and what only the whole file shows. Every problem is reported, with its line, at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.connections import PostgresConnectionConfig
from gateway.config.http_connections import HttpConnectionConfig
from gateway.config.masking import MaskingSection
from gateway.config.sections import (
    ApprovalSection,
    EvidenceSection,
    GatewaySection,
    IdentitySection,
    LimitsSection,
    ListenersSection,
    PolicySection,
)
from gateway.config.source import Location, Problem, Source, locate, read_source, show_path
from gateway.config.ssh_connections import SshConnectionConfig
from gateway.config.values import (
    AGE_RECIPIENT_PATTERN,
    ALIAS_PATTERN,
    BASE_FOLDER,
    NAME_PATTERN,
    PERSON_PATTERN,
    URL_PATTERN,
    Settings,
)
from gateway.errors import ConfigError, suggest_name

FIX: Final = "correct the file and run `sealgate validate -c FILE`; `sealgate config docs` describes every setting"


ConnectionConfig = Annotated[PostgresConnectionConfig | HttpConnectionConfig | SshConnectionConfig, Field(discriminator="type")]
"""A connection of any protocol: `type` says which."""

CONNECTION_TYPES: Final = ("postgres", "http", "ssh")

CREDENTIAL_KINDS: Final = ("bearer", "basic", "header", "query", "mtls", "oauth2")
"""What tells the credentials of an HTTP connection apart; pydantic names it in places, the file does not."""


class Config(Settings):
    """The whole configuration of one gateway (sealgate.yaml)."""

    gateway: GatewaySection = Field(description="The gateway itself.")
    identity: IdentitySection = Field(description="Who may speak to the gateway.")
    listeners: ListenersSection = Field(description="Where clients connect.")
    policy: PolicySection = Field(description="What decides.")
    evidence: EvidenceSection = Field(description="Where and how the record is kept.")
    approval: ApprovalSection = Field(default=ApprovalSection(), description="How actions wait for a reviewer.")
    limits: LimitsSection = Field(default=LimitsSection(), description="Sizes and times beyond which the gateway refuses.")
    masking: MaskingSection = Field(default=MaskingSection(), description="How sensitive data is found and replaced.")
    connections: tuple[ConnectionConfig, ...] = Field(min_length=1, strict=False, description="The systems agents may reach.")

    def find_database(self, name: str) -> PostgresConnectionConfig | None:
        """The PostgreSQL connection a client reaches with this database name."""
        databases = (item for item in self.connections if isinstance(item, PostgresConnectionConfig))
        return next((connection for connection in databases if name in connection.databases), None)


def load_config(path: Path) -> Config:
    """The configuration in a file; relative paths in it are relative to its folder.

    Raises:
        ConfigError: with every problem as "line N, path: text".
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        fix = "name the configuration with -c FILE; `sealgate demo --keep` leaves a working one"
        raise ConfigError(f"{path} cannot be read", why=error.strerror or "the system refused", fix=fix) from None
    return parse_config(data, base_folder=path.resolve().parent, name=str(path))


def parse_config(data: bytes, *, base_folder: Path, name: str = "sealgate.yaml") -> Config:
    """The configuration in a YAML text. Raises ConfigError with every problem."""
    source = read_source(data)
    problems = list(source.problems)
    config: Config | None = None
    if not problems and not isinstance(source.value, dict):
        problems.append(Problem(1, "", "the file must hold sections such as gateway: and connections:"))
    if isinstance(source.value, dict):
        try:
            config = Config.model_validate(source.value, context={BASE_FOLDER: base_folder})
        except ValidationError as error:
            details = [_leave_out_type(detail) for detail in error.errors(include_url=False, include_input=False)]
            problems += [_describe(detail, source) for detail in details if not _is_echo(detail, details)]
            problems += _check_sections(source, details)
        problems += find_conflicts(source)
    if problems or config is None:
        ordered = sorted(set(problems), key=lambda problem: (problem.line, problem.path, problem.text))
        count = f"{len(ordered)} problem{'s' if len(ordered) > 1 else ''}"
        raise ConfigError(f"{name} has {count}", problems=[str(problem) for problem in ordered], fix=FIX)
    return config


def _leave_out_type(detail: ErrorDetails) -> ErrorDetails:
    """The detail at the place the file has: pydantic names the type of a connection between its number and its setting."""
    match detail["loc"]:
        case ("connections", int(), str(kind), *_) as place if kind in CONNECTION_TYPES:
            detail["loc"] = (*place[:2], *place[3:])
            if place[3:4] == ("credential",) and place[4:5] != () and place[4] in CREDENTIAL_KINDS:
                detail["loc"] = (*detail["loc"][:3], *detail["loc"][4:])
        case ("connections", int()) as place if detail["type"] in {"union_tag_invalid", "union_tag_not_found"}:
            detail["loc"] = (*place, "type")
    return detail


def _describe(detail: ErrorDetails, source: Source) -> Problem:
    kind = detail["type"]
    line, location = locate(source, tuple(detail["loc"]), key=kind == "extra_forbidden")
    return Problem(line, show_path(location), _explain(detail) + (_suggest(detail, source) if kind == "extra_forbidden" else ""))


def _suggest(detail: ErrorDetails, source: Source) -> str:
    """The setting that an unknown one may be meant for."""
    *place, name = detail["loc"]
    model, _ = _find_section(place, source.value)
    return suggest_name(str(name), () if model is None else model.model_fields)


def _is_echo(detail: ErrorDetails, details: Sequence[ErrorDetails]) -> bool:
    """Whether a list counts as too short only because its items are wrong, which is said for each of them already."""
    place = detail["loc"]
    return detail["type"] == "too_short" and any(
        other["loc"][: len(place)] == place and len(other["loc"]) > len(place) for other in details
    )


def _check_sections(source: Source, details: Sequence[ErrorDetails]) -> Iterator[Problem]:
    """What only a whole section shows, for sections in which single settings are wrong too: pydantic leaves those checks out then."""
    for place in {tuple(detail["loc"][:-1]) for detail in details}:
        model, given = _find_section(place, source.value)
        if model is None or not isinstance(given, dict):
            continue
        wrong = {detail["loc"][len(place)] for detail in details if detail["loc"][: len(place)] == place != detail["loc"]}
        defaults = {
            name: field.get_default(call_default_factory=True)
            for name, field in model.model_fields.items()
            if not field.is_required()
        }
        members = {name: value for name, value in {**defaults, **given}.items() if name not in wrong}
        section = model.model_construct(**members)
        for name in wrong:
            section.__dict__.pop(str(name), None)  # not its default either: what is wrong has no value to check
        for check in model.__pydantic_decorators__.model_validators:
            try:
                getattr(section, check)()
            except ValueError as error:
                yield _problem(source, place, str(error))
            except (AttributeError, TypeError):
                continue  # it looks at one of the wrong settings, which are reported already


def _find_section(place: Sequence[int | str], value: object) -> tuple[type[Settings] | None, object]:
    """The kind of section at a place, and what the file has there; no kind where the place is no section."""
    model: type[Settings] | None = Config
    inside_mapping = False
    for part in place:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None, None
        if inside_mapping:  # the part was a free name, such as that of a group of reviewers
            inside_mapping = False
        elif model is not None and part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
            kinds = list(_find_kinds(annotation))
            model, inside_mapping = (kinds[0] if len(kinds) == 1 else None), get_origin(annotation) is dict
        elif place[0] == "connections" and isinstance(part, int) and isinstance(value, dict):
            model = next((kind for kind in _find_kinds(ConnectionConfig) if _names_type(kind, value.get("type"))), None)
    return (None if inside_mapping else model), value


def _names_type(kind: type[Settings], name: object) -> bool:
    return name in get_args(kind.model_fields["type"].annotation)


def _find_kinds(annotation: object) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for inner in get_args(annotation):
        yield from _find_kinds(inner)


def _explain(detail: ErrorDetails) -> str:
    """A validator's complaint in the words of the documentation; a value is never repeated, it may be a secret."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return "is not a known setting"
    if kind == "string_pattern_mismatch":
        return _PATTERN_WORDS.get(context["pattern"], f"must match {context['pattern']}")
    if kind == "value_error":
        return str(context["error"])
    template = _WORDS.get(kind)
    return detail["msg"].replace("Input should", "must") if template is None else template.format(**context)


_WORDS: Final = {
    "missing": "is missing",
    "union_tag_not_found": "is missing",
    "union_tag_invalid": "must be one of {expected_tags}",
    "literal_error": "must be {expected}",
    "model_type": "must hold settings (key: value)",
    "model_attributes_type": "must hold settings (key: value)",
    "dict_type": "must hold settings (key: value)",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
    "too_long": "has {actual_length} entries; at most {max_length} are allowed",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text; put a number or true in quotes to make it text",
    "string_too_short": "must not be empty",
    "string_too_long": "has more than {max_length} characters",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}

_PATTERN_WORDS: Final = {
    NAME_PATTERN: "must be 1 to 63 of a-z, 0-9, dot, hyphen and underscore, with a letter or digit first and last",
    ALIAS_PATTERN: "must be 1 to 32 of a-z, 0-9 and hyphen, with a letter or digit first",
    URL_PATTERN: "must be an http or https address without query or fragment",
    AGE_RECIPIENT_PATTERN: "must be an age public key (age1…), as age-keygen prints it",
    PERSON_PATTERN: "must be ALIAS/SUB, the id of a subject",
}


def find_conflicts(source: Source) -> Iterator[Problem]:
    """What is wrong between settings that are each well-formed. Works on plain values, so that type errors elsewhere hide none."""
    for check in (_check_connections, _check_issuers, _check_listeners, _check_people):
        yield from check(source)


def _check_connections(source: Source) -> Iterator[Problem]:
    yield from _find_repeats(source, ("connections",), "name", "connection name")
    seen: dict[tuple[str, str], str] = {}
    for index, connection in _items(source, ("connections",)):
        kind = {"postgres": "database", "ssh": "host"}.get(str(connection.get("type")))
        if kind is None:
            continue
        names = _strings(_member(connection, "match", f"{kind}s")) or _strings([connection.get("name")])
        for name in dict.fromkeys(names):
            owner = seen.setdefault((kind, name), str(connection.get("name")))
            if owner != connection.get("name"):
                yield _problem(source, ("connections", index, "match"), f"{kind} {name} already leads to connection {owner}")


def _check_issuers(source: Source) -> Iterator[Problem]:
    yield from _find_repeats(source, ("identity", "issuers"), "alias", "alias")
    yield from _find_repeats(source, ("identity", "issuers"), "issuer", "issuer")


def _check_listeners(source: Source) -> Iterator[Problem]:
    listeners = _mapping(_member(source.value, "listeners"))
    if "listeners" in source.value and not any(isinstance(listener, dict) for listener in listeners.values()):
        yield _problem(source, ("listeners",), "has no listener: nothing could connect")
    for index, connection in _items(source, ("connections",)):
        kind = connection.get("type")
        if kind in CONNECTION_TYPES and kind not in listeners:
            yield _problem(source, ("connections", index, "type"), f"needs listeners.{kind}, which is missing")
    taken: dict[tuple[Any, Any], str] = {}
    for name, listener in listeners.items():
        if not isinstance(listener, dict) or listener.get("port") in {None, 0}:
            continue
        address = (listener.get("bind", "127.0.0.1"), listener["port"])
        owner = taken.setdefault(address, name)
        if owner != name:
            yield _problem(
                source, ("listeners", name, "port"), f"port {address[1]} on {address[0]} is already that of listeners.{owner}"
            )


def _check_people(source: Source) -> Iterator[Problem]:
    aliases = {issuer.get("alias") for _, issuer in _items(source, ("identity", "issuers"))}
    for group, members in _mapping(_member(source.value, "approval", "reviewers")).items():
        for index, person in enumerate(_strings(_member(members, "people"))):
            alias = person.partition("/")[0]
            if alias not in aliases:
                yield _problem(
                    source, ("approval", "reviewers", group, "people", index), f"{alias} is not the alias of a configured issuer"
                )


def _find_repeats(source: Source, location: Location, member: str, title: str) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, item in _items(source, location):
        value = item.get(member)
        if not isinstance(value, str):
            continue
        line, _ = locate(source, (*location, index, member))
        if value in first:
            yield _problem(source, (*location, index, member), f"{title} {value} is already used on line {first[value]}")
        first.setdefault(value, line)


def place_problems(path: Path, found: Mapping[Location, str]) -> list[str]:
    """What is wrong with settings of a file that was read already, each as "line N, path: text". Raises OSError."""
    source = read_source(path.read_bytes())
    problems = [_problem(source, location, text) for location, text in found.items()]
    return [str(problem) for problem in sorted(problems, key=lambda problem: problem.line)]


def find_warnings(config: Config) -> tuple[str, ...]:
    """What is allowed but weak, for `validate`, `doctor` and the log at start."""
    checks: Iterable[tuple[bool, str]] = (
        (
            config.evidence.sigstore.mode == "development",
            "evidence.sigstore.mode is development: its signatures prove nothing to anyone outside this machine",
        ),
        (
            not config.evidence.recipients,
            "evidence.recipients is empty: nobody will be able to read recorded inputs and transcripts",
        ),
        (config.masking.key is None, "masking.key is not set: hashes and tokens change at every start"),
        (
            config.listeners.admin is not None
            and config.evidence.sigstore.trust_config is None
            and config.evidence.sigstore.mode == "development",
            "no reviewer can sign an approval: evidence.sigstore.trust_config is not set, and in mode development only the gateway has an identity",
        ),
        (config.listeners.admin is None, "listeners.admin is not set: actions that need approval can only be refused"),
    )
    found = [text for applies, text in checks if applies]
    for connection in config.connections:
        found += connection.find_weaknesses()
    return tuple(found)


def _problem(source: Source, location: Location, text: str) -> Problem:
    line, _ = locate(source, location)
    return Problem(line, show_path(location), text)


def _items(source: Source, location: Location) -> Iterator[tuple[int, Mapping[str, Any]]]:
    value = _member(source.value, *(str(part) for part in location))
    for index, item in enumerate(value if isinstance(value, list) else []):
        if isinstance(item, dict):
            yield index, item


def _member(value: object, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
