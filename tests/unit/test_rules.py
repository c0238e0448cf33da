"""A policy document judges one finding: in order, guarded, and the same way for ever."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from screening.ids import uuid7
from screening.rules import DEFAULT, Document, Facts, Guard, Outcome, Ruling, judge

FAKE = Facts(
    screening_id=UUID(int=7), label="fake", score=0.97, probability=0.99, area_fraction=0.2, extent="local",
    mask_verdict_conflict=False, priority="normal", provenance_conflict=False,
    metadata={"source": "listing", "seller": {"age_days": 3}, "verified": True},
)  # fmt: skip


def document(*rules: dict[str, Any], **members: Any) -> Document:
    quiet = {"sample": {"share": 0}, "check_blocks": {"share": 0}}
    return Document.model_validate({"rules": list(rules), **quiet, **members})


def rule(outcome: str, *when: tuple[str, str, Any], name: str = "r") -> dict[str, Any]:
    return {"name": name, "outcome": outcome, "when": [{"field": f, "op": o, "value": v} for f, o, v in when]}


def outcome(made: Document, facts: Facts = FAKE) -> Ruling:
    return judge(made, 1, facts, blocks_suspended=False)


def test_the_first_rule_that_holds_decides() -> None:
    made = document(rule("review", ("score", ">=", 0.99), name="a"), rule("block", ("score", ">=", 0.9), name="b"))
    assert outcome(made) == Ruling(Outcome.BLOCK, "b")
    assert outcome(made, replace(FAKE, score=0.995)).rule == "a"
    assert outcome(made, replace(FAKE, score=0.1)) == Ruling(Outcome.ALLOW, "otherwise")


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (("metadata.source", "==", "listing"), True),
        (("metadata.source", "!=", "listing"), False),
        (("metadata.source", "in", ["chat", "listing"]), True),
        (("metadata.source", "not_in", ["chat"]), True),
        (("metadata.seller.age_days", "<", 7), True),
        (("metadata.verified", "==", True), True),
        (("metadata.verified", "==", 1), False),
        (("metadata.source", ">", 3), False),
        (("metadata.absent", "!=", "x"), False),
        (("metadata.absent", "not_in", ["x"]), False),
        (("metadata.absent", "exists", False), True),
        (("metadata.seller.age_days.deeper", "exists", True), False),
        (("probability", ">", 0.98), True),
        (("priority", "in", ["high"]), False),
        (("extent", "==", "local"), True),
        (("provenance_conflict", "==", False), True),
    ],
)
def test_a_condition_compares_what_is_there_and_never_what_is_absent(
    condition: tuple[str, str, Any], holds: bool
) -> None:
    assert (outcome(document(rule("block", condition))).outcome is Outcome.BLOCK) == holds


def test_an_absent_probability_satisfies_no_comparison() -> None:
    unsure = replace(FAKE, probability=None)
    for op in ("<", "<=", ">", ">=", "==", "!="):
        assert outcome(document(rule("block", ("probability", op, 0.5))), unsure).outcome is Outcome.ALLOW


@pytest.mark.parametrize(
    ("doubt", "guard"),
    [
        ({"label": "inconclusive"}, Guard.INCONCLUSIVE),
        ({"mask_verdict_conflict": True}, Guard.MASK_VERDICT_CONFLICT),
        ({"provenance_conflict": True}, Guard.PROVENANCE_CONFLICT),
    ],
)
def test_no_document_can_block_what_is_doubtful(doubt: dict[str, Any], guard: Guard) -> None:
    made = document({**rule("block"), "queue": "urgent", "due_seconds": 600})
    assert outcome(made, replace(FAKE, **doubt)) == Ruling(Outcome.REVIEW, "r", guard, "urgent", 600)
    assert outcome(document(otherwise="block"), replace(FAKE, **doubt)).outcome is Outcome.REVIEW


def test_the_kill_switch_turns_a_block_into_a_review_and_touches_nothing_else() -> None:
    for said, becomes in (("block", Outcome.REVIEW), ("review", Outcome.REVIEW), ("allow", Outcome.ALLOW)):
        assert judge(document(rule(said)), 1, FAKE, blocks_suspended=True).outcome is becomes


def test_the_sample_takes_its_share_of_allowed_items_and_always_the_same_ones() -> None:
    made = document(sample={"share": 0.25, "queue": "audit", "due_seconds": 3600})
    items = [replace(FAKE, screening_id=uuid7()) for _ in range(4000)]
    first = [outcome(made, item) for item in items]
    assert first == [outcome(made, item) for item in items]
    taken = [ruling for ruling in first if ruling.guard is Guard.SAMPLED]
    assert 0.20 < len(taken) / len(items) < 0.30  # seven standard deviations of Binomial(4000, 1/4)
    assert taken[0] == Ruling(Outcome.REVIEW, "otherwise", Guard.SAMPLED, "audit", 3600)
    other_version = [judge(made, 2, item, blocks_suspended=False).guard for item in items]
    assert other_version != [ruling.guard for ruling in first]


def test_a_checked_block_stays_blocked_and_is_looked_at_as_well() -> None:
    made = document(rule("block"), check_blocks={"share": 1, "queue": "check"})
    ruling = outcome(made)
    assert (ruling.outcome, ruling.guard, ruling.queue) == (Outcome.BLOCK, Guard.SAMPLED, "check")


def test_the_built_in_policy_blocks_nothing_by_itself() -> None:
    for score in (0.0, 0.3, 0.5, 0.8, 1.0):
        assert judge(DEFAULT, 0, replace(FAKE, score=score), blocks_suspended=False).outcome is not Outcome.BLOCK


@pytest.mark.parametrize(
    "wrong",
    [
        {"rules": [rule("block", ("scoer", ">", 0.5))]},
        {"rules": [rule("block", ("score", ">", "0.5"))]},
        {"rules": [rule("block", ("score", "in", 0.5))]},
        {"rules": [rule("block", ("score", ">", float("nan")))]},
        {"rules": [rule("block", ("label", "==", "forged"))]},
        {"rules": [rule("block", ("label", ">", "fake"))]},
        {"rules": [rule("block", ("mask_verdict_conflict", "==", "yes"))]},
        {"rules": [rule("block", ("metadata..x", "==", 1))]},
        {"rules": [rule("deny")]},
        {"rules": [rule("block"), rule("allow")]},
        {"rules": [], "smaple": {"share": 0.1}},
        {"rules": [], "sample": {"share": 1.5}},
        {"rules": [{**rule("review"), "due_seconds": 1}]},
        {"rules": [rule("allow", name="Not A Name")]},
    ],
)
def test_a_document_that_could_not_mean_what_it_says_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Document.model_validate(wrong)
