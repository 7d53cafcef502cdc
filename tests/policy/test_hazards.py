"""What a policy can do to its engine, each with the guard that stops it.

The loader refuses most of these in a bundle (test_bundle.py); here they run behind the loader's back, against the evaluator process.
"""

from __future__ import annotations

import pytest
from sealgate_native import policy as native

from gateway.errors import PolicyError
from gateway.policy import process
from gateway.policy.bundle import Bundle, Module
from gateway.policy.engine import PolicyFailure
from gateway.policy.recompute import Recomputer, evaluate_bundle
from gateway.testing.policy import make_document, raw_bundle

DEADLINE_S = 2.0


def kind_of(*rules: str, document: object = None, deadline_s: float = DEADLINE_S) -> str:
    with pytest.raises(PolicyFailure) as caught:
        evaluate_bundle(raw_bundle(*rules), document or make_document(), deadline_s=deadline_s)
    return caught.value.kind


def test_function_recursion_ends_the_evaluator_and_nothing_else() -> None:
    assert kind_of("f(n) := f(n - 1)", "decision := f(input.context.now_ns)") in {"died", "deadline"}


def test_a_builtin_no_timer_stops_is_killed() -> None:
    assert kind_of("decision := bits.lsh(1, 100000000)", deadline_s=1.0) in {"deadline", "died", "error"}
    assert kind_of("decision := count(numbers.range(1, 100000000))", deadline_s=1.0) in {"deadline", "died", "error"}


def test_repeated_squaring_is_killed() -> None:
    rules = ["x0 := input.context.now_ns", *(f"x{n} := x{n - 1} * x{n - 1}" for n in range(1, 26)), "decision := x25"]
    assert kind_of(*rules, deadline_s=1.0) in {"deadline", "died"}


def test_a_huge_format_or_replacement_does_not_take_the_host_memory() -> None:
    assert kind_of('decision := sprintf("%1000000000d", [1])', deadline_s=5.0) in {"died", "error", "deadline"}
    blow = ['x0 := "aaaaaaaaaa"', *(f'x{n} := replace(x{n - 1}, "a", "aaaaaaaaaa")' for n in range(1, 10)), "decision := x9"]
    assert kind_of(*blow, deadline_s=5.0) in {"died", "error", "deadline"}


def test_a_loop_meets_the_engines_timer() -> None:
    numbers = list(range(3000))
    document = make_document(numbers=numbers)
    rule = "decision := count([1 | some a in input.numbers; some b in input.numbers; some c in input.numbers; a + b + c < 0])"
    assert kind_of(rule, document=document) == "deadline"


def test_a_panic_is_a_kind_and_the_evaluator_lives_on() -> None:
    bundle = raw_bundle('decision := strings.count("aa", input.needle)')
    with Recomputer(bundle) as recomputer:
        with pytest.raises(PolicyFailure) as caught:
            recomputer.evaluate(make_document(needle=""))
        assert caught.value.kind == "panic"
        assert recomputer.evaluate(make_document(needle="a")) == 2


def test_conflict_error_and_undefined_are_kinds_of_their_own() -> None:
    assert kind_of("decision := 1 if input.phase", "decision := 2 if input.phase") == "conflict"
    assert kind_of("decision := upper(input.context)") == "error"
    assert kind_of("decision := 1 if input.nothing") == "undefined"
    assert kind_of("a := b", "b := a", "decision := a") == "error"


def test_null_is_a_value_and_undefined_is_not() -> None:
    assert evaluate_bundle(raw_bundle("decision := null"), make_document()) is None


def test_builtin_errors_are_strict_so_that_no_deny_is_lost() -> None:
    rules = ["deny contains 1 if startswith(input.context.now_ns, input.phase)", "decision := count(deny)"]
    assert kind_of(*rules) == "error"


def test_nested_literals_cannot_hang_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOAD_DEADLINE_S", 1.5)
    with pytest.raises(PolicyError, match="cannot be compiled"):
        evaluate_bundle(raw_bundle(f"decision := {'[' * 40}1{']' * 40}"), make_document())


def test_a_long_chain_of_rules_does_not_end_the_evaluator_within_the_rule_limit() -> None:
    count = 3_900
    rules = ["x0 := 1", *(f"x{n} := x{n - 1}" for n in range(1, count)), f"decision := x{count - 1}"]
    assert evaluate_bundle(raw_bundle(*rules), make_document(), deadline_s=20.0) == 1


def test_data_over_a_rule_overrides_it_in_the_engine_which_is_why_the_loader_refuses_it() -> None:
    module = "package t\n\ndefault allow := false\n\nallow if input.nothing\n"
    policy = native.CompiledPolicy([("t.rego", module)], '{"t": {"allow": true}}', "data.t.allow")
    assert policy.eval({}) is True


def test_print_reaches_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    policy = native.CompiledPolicy([("t.rego", "package t\n\nx := 1 if print(input.secret)\n")], "{}", "data.t.x")
    assert policy.eval({"secret": "hunter2"}) == 1
    assert policy.eval_json('{"secret": "hunter2"}') == 1
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_panic_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    policy = native.CompiledPolicy([("t.rego", 'package t\n\nx := strings.count("a", input.n)\n')], "{}", "data.t.x")
    with pytest.raises(native.EvaluationError):
        policy.eval({"n": ""})
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(
    "value", [2**64, -(2**63) - 1, float("nan"), float("inf"), "\ud800", {1: 2}, b"bytes", {"a", "b"}, object()]
)
def test_values_the_engine_would_change_are_refused(value: object) -> None:
    policy = native.CompiledPolicy([("t.rego", "package t\n\nx := input.v\n")], "{}", "data.t.x")
    with pytest.raises(native.EvaluationError) as caught:
        policy.eval({"v": value})
    assert caught.value.kind == "input"


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 2**53 + 1, 0, "a\x00b", "\u00e9", "e\u0301", [], {}, None, True, 1.5])
def test_values_the_engine_holds_come_back_as_they_were(value: object) -> None:
    policy = native.CompiledPolicy([("t.rego", "package t\n\nx := input.v\n")], "{}", "data.t.x")
    assert policy.eval({"v": value}) == value
    assert type(policy.eval({"v": value})) is type(value)


def test_depth_is_limited_both_as_objects_and_as_text() -> None:
    policy = native.CompiledPolicy([("t.rego", "package t\n\nx := 1\n")], "{}", "data.t.x")
    deep: object = 1
    for _ in range(native.MAX_DEPTH):
        deep = [deep]
    assert policy.eval(deep) == 1
    for ask in (lambda: policy.eval([deep]), lambda: policy.eval_json("[" * 10_000 + "]" * 10_000)):
        with pytest.raises(native.EvaluationError) as caught:
            ask()
        assert caught.value.kind == "input"


def test_undefined_is_a_type_of_its_own() -> None:
    policy = native.CompiledPolicy([("t.rego", "package t\n\nx := input.v\n")], "{}", "data.t.x")
    assert policy.eval({}) is native.UNDEFINED
    assert policy.eval({"v": None}) is None
    assert native.UNDEFINED is not None
    assert not native.UNDEFINED


def test_mapped_addresses_differ_between_engines_so_addresses_are_canonical_before_policy_sees_them() -> None:
    policy = native.CompiledPolicy(
        [("t.rego", 'package t\n\nx := net.cidr_contains("127.0.0.0/8", input.ip)\n')], "{}", "data.t.x"
    )
    assert policy.eval({"ip": "127.0.0.1"}) is True
    assert policy.eval({"ip": "::ffff:127.0.0.1"}) is False


def test_messages_about_evaluation_hold_no_values() -> None:
    with pytest.raises(PolicyFailure) as caught:
        evaluate_bundle(raw_bundle("decision := upper(input.card)"), make_document(card=["4111111111111111"]))
    assert "4111" not in str(caught.value)
    assert "upper expects" in str(caught.value)


def test_a_broken_module_is_a_policy_error_with_its_place() -> None:
    with pytest.raises(PolicyError, match=r"main\.rego:\d"):
        evaluate_bundle(raw_bundle("decision := "), make_document())
    with pytest.raises(PolicyError):
        evaluate_bundle(Bundle("sha256:x", (), {}, {}, {}, {}), make_document())
    with pytest.raises(PolicyError):
        evaluate_bundle(Bundle("sha256:x", (Module("m.rego", "package other\n\nx := 1\n"),), {}, {}, {}, {}), make_document())


A, B, C = {"name": "a", "why": "x"}, {"name": "b"}, {"name": "c", "why": "y"}


@pytest.mark.parametrize("members", [[A, B], [B, A], [A, B, C], [A, C, B], [B, B, A], [B], []])
@pytest.mark.parametrize(
    "rule",
    [
        "deny contains m.why if some m in input.members",
        "deny contains m.why if {\n\tsome m in input.members # comment\n}",
        "deny contains m.why if { some m in input.members }",
        "deny contains input.members[_].why",
        "deny contains f(m) if some m in input.members\n\nf(m) := m.why",
        "deny contains {\n\tm.why, # first\n} if {\n\tsome m in input.members\n}",
    ],
)
def test_a_head_undefined_for_one_member_loses_only_that_member(rule: str, members: list[dict[str, str]]) -> None:
    """Unguarded, regorus 0.14 forgets every member before the undefined one, or fails: a deny would vanish."""
    wanted = sorted(member["why"] for member in members if "why" in member)
    answer = evaluate_bundle(raw_bundle(rule, "decision := deny"), make_document(members=members))
    assert answer in (wanted, [[why] for why in wanted])


def test_the_engine_still_forgets_without_the_guard() -> None:
    """When this fails the guard of gateway/policy/heads.py may go."""
    module = "package t\n\nx contains m.why if some m in input.members\n"
    policy = native.CompiledPolicy([("t.rego", module)], "{}", "data.t.x")
    assert policy.eval({"members": [A, B]}) == []
