"""What does a policy document say about one finding? Pure: no database, no clock, no chance.

Rules are read in order and the first whose conditions all hold decides. Then come the guards, which no document can
switch off: a doubtful finding and a standing kill switch turn `block` into `review`. Last comes the sample.
"""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MINUTE, HOUR, DAY = 60, 3600, 86_400
DEFAULT_QUEUE = "default"

Scalar = bool | int | float | str
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[int, Field(ge=MINUTE, le=90 * DAY)]

NUMBERS = frozenset({"score", "probability", "area_fraction"})
WORDS = {
    "label": frozenset({"authentic", "fake", "inconclusive"}),
    "extent": frozenset({"none", "local", "whole", "unlocalized"}),
    "priority": frozenset({"high", "normal", "bulk"}),
}
FLAGS = frozenset({"mask_verdict_conflict", "provenance_conflict"})
ORDER = frozenset({"<", "<=", ">", ">="})


class Outcome(StrEnum):
    """What a policy does with an image."""

    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"


class Guard(StrEnum):
    """Why the outcome is not what the rule alone said."""

    KILL_SWITCH = "kill_switch"
    MASK_VERDICT_CONFLICT = "mask_verdict_conflict"
    PROVENANCE_CONFLICT = "provenance_conflict"
    INCONCLUSIVE = "inconclusive"
    SAMPLED = "sampled"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _misfit(field: str, op: str, value: object) -> str | None:
    """What is wrong with a comparison, in a sentence for its author; None where it makes sense."""
    if op == "exists":
        return None if isinstance(value, bool) else "`exists` takes true or false"
    if isinstance(value, list) != (op in ("in", "not_in")):
        return f"`{op}` takes {'a list' if op in ('in', 'not_in') else 'one value'}"
    if op in ORDER and not _is_number(value):
        return f"`{op}` takes a number"
    values = value if isinstance(value, list) else [value]
    if field in NUMBERS:
        return None if all(map(_is_number, values)) else f"{field} is a number"
    if field in WORDS:
        known = WORDS[field]
        return None if op not in ORDER and all(v in known for v in values) else f"{field} is one of {sorted(known)}"
    if field in FLAGS:
        return None if op in ("==", "!=") and isinstance(value, bool) else f"{field} is true or false"
    if field.startswith("metadata.") and all(field.split(".")):
        return None
    return f"unknown field {field!r}: use {sorted(NUMBERS | WORDS.keys() | FLAGS)} or metadata.<name>"


class Strict(BaseModel):
    """A part of the document: unknown members are errors, because a misspelt rule would silently never fire."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Condition(Strict):
    """One comparison. A value that is absent (no probability, no such metadata) satisfies none but `exists: false`."""

    field: str = Field(max_length=200)
    op: Literal["<", "<=", ">", ">=", "==", "!=", "in", "not_in", "exists"]
    value: Scalar | Annotated[list[Scalar], Field(min_length=1, max_length=200)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if problem := _misfit(self.field, self.op, self.value):
            raise ValueError(problem)
        return self


class Rule(Strict):
    """All conditions must hold; none means always."""

    name: Name
    when: Annotated[list[Condition], Field(max_length=20)] = []
    outcome: Outcome
    queue: Name = DEFAULT_QUEUE
    due_seconds: Seconds = DAY


class Sample(Strict):
    """A share of items that people see although the rules do not ask for it: the only unbiased truth there is."""

    share: Share = 0.0
    queue: Name = "sample"
    due_seconds: Seconds = 3 * DAY


class SecondReview(Strict):
    """Which first decisions need a second person, who does not see the first."""

    verdicts: frozenset[Literal["authentic", "fake"]] = frozenset()
    actions: frozenset[Literal["allow", "label", "block"]] = frozenset()


class Reason(Strict):
    """A reason a reviewer may give, picked by digit in this order."""

    code: Name
    label: str = Field(min_length=1, max_length=80)
    verdict: Literal["authentic", "fake"] | None = None  # None: fits both


REASONS = (
    Reason(code="splice", label="Part of another image pasted in", verdict="fake"),
    Reason(code="copy_move", label="Part of the same image repeated", verdict="fake"),
    Reason(code="inpainting", label="Something removed or filled in", verdict="fake"),
    Reason(code="generated", label="Wholly generated", verdict="fake"),
    Reason(code="text_edit", label="Text or number altered", verdict="fake"),
    Reason(code="no_trace", label="No trace of manipulation", verdict="authentic"),
    Reason(code="harmless_edit", label="Only crop, resize or colour", verdict="authentic"),
    Reason(code="compression", label="Compression or scan artefact", verdict="authentic"),
    Reason(code="other", label="Other (say so in the note)"),
)


class Document(Strict):
    """A policy as its platform writes it."""

    rules: Annotated[list[Rule], Field(max_length=100)]
    otherwise: Outcome = Outcome.ALLOW
    sample: Sample = Sample(share=0.01)  # of `allow`: these go to review instead
    check_blocks: Sample = Sample(share=0.05, queue="check")  # of `block`: stay blocked, and a person looks as well
    second_review: SecondReview = SecondReview()
    golden_share: Annotated[float, Field(ge=0, le=0.5)] = 0.02  # of claims: items whose truth is known
    reasons: Annotated[list[Reason], Field(min_length=1, max_length=30)] = list(REASONS)
    text: str = Field(default="", max_length=20_000)  # what reviewers are to go by, in the platform's words

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, names in (("rule", [r.name for r in self.rules]), ("reason", [r.code for r in self.reasons])):
            if len(set(names)) != len(names):
                raise ValueError(f"each {what} needs a name of its own")
        if r"\u0000" in json.dumps(self.model_dump(mode="json")):
            raise ValueError("text may not hold the NUL character")  # which PostgreSQL cannot keep
        return self


# People decide before anything is blocked: a service that nobody has tuned yet must not take images down by itself.
DEFAULT = Document(
    rules=[
        Rule(
            name="doubtful",
            when=[Condition(field="mask_verdict_conflict", op="==", value=True)],
            outcome=Outcome.REVIEW,
        ),
        Rule(
            name="inconclusive",
            when=[Condition(field="label", op="==", value="inconclusive")],
            outcome=Outcome.REVIEW,
        ),
        Rule(
            name="likely-fake",
            when=[Condition(field="score", op=">=", value=0.8)],
            outcome=Outcome.REVIEW,
            due_seconds=4 * HOUR,
        ),
        Rule(name="maybe-fake", when=[Condition(field="score", op=">=", value=0.4)], outcome=Outcome.REVIEW),
    ],
    text="Decide whether the image was manipulated after it was taken. Crops, resizing, colour and compression are "
    "not manipulation. When the traces do not convince you, skip or escalate: a wrong verdict costs more than a "
    "slow one.",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules may ask about one finding."""

    screening_id: UUID
    label: str
    score: float
    probability: float | None
    area_fraction: float
    extent: str
    mask_verdict_conflict: bool
    priority: str
    provenance_conflict: bool
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ruling:
    """What follows. `queue` and `due_seconds` are set where a person is to look, also at a checked block."""

    outcome: Outcome
    rule: str
    guard: Guard | None = None
    queue: str | None = None
    due_seconds: int | None = None


def judge(document: Document, version: int, facts: Facts, *, blocks_suspended: bool) -> Ruling:
    """The ruling of one version of a policy on one finding; the same input gives the same ruling for ever."""
    rule = _first(document, facts)
    if rule.outcome is Outcome.REVIEW:
        return Ruling(Outcome.REVIEW, rule.name, None, rule.queue, rule.due_seconds)
    if rule.outcome is Outcome.BLOCK:
        return _blocked(document, version, facts, rule, blocks_suspended)
    if sampled(facts.screening_id, version, document.sample.share):
        return Ruling(
            Outcome.REVIEW, rule.name, Guard.SAMPLED, document.sample.queue, document.sample.due_seconds
        )  # fmt: skip
    return Ruling(Outcome.ALLOW, rule.name)


def _first(document: Document, facts: Facts) -> Rule:
    for rule in document.rules:
        if all(_holds(condition, facts) for condition in rule.when):
            return rule
    return Rule(name="otherwise", outcome=document.otherwise)


def _blocked(document: Document, version: int, facts: Facts, rule: Rule, suspended: bool) -> Ruling:
    if guard := _guard(facts, suspended):
        return Ruling(Outcome.REVIEW, rule.name, guard, rule.queue, rule.due_seconds)
    check = document.check_blocks
    if sampled(facts.screening_id, version, check.share):
        return Ruling(Outcome.BLOCK, rule.name, Guard.SAMPLED, check.queue, check.due_seconds)
    return Ruling(Outcome.BLOCK, rule.name)


def _guard(facts: Facts, suspended: bool) -> Guard | None:
    if facts.label == "inconclusive":
        return Guard.INCONCLUSIVE
    if facts.mask_verdict_conflict:
        return Guard.MASK_VERDICT_CONFLICT
    if facts.provenance_conflict:
        return Guard.PROVENANCE_CONFLICT
    return Guard.KILL_SWITCH if suspended else None


def sampled(screening_id: UUID, version: int, share: float) -> bool:
    """Whether this item falls into the share: by hash of (id, version), so that nobody can steer or repeat the draw."""
    digest = hashlib.sha256(screening_id.bytes + version.to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _value(field: str, facts: Facts) -> Any:
    if not field.startswith("metadata."):
        return getattr(facts, field)
    value: Any = facts.metadata
    for part in field.split(".")[1:]:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _holds(condition: Condition, facts: Facts) -> bool:
    actual, wanted = _value(condition.field, facts), condition.value
    if condition.op == "exists":
        return (actual is not None) == wanted
    if actual is None:
        return False
    if condition.op in ORDER:
        return _ordered(condition.op, actual, wanted)
    among = wanted if isinstance(wanted, list) else [wanted]
    return any(_same(actual, one) for one in among) == (condition.op in ("==", "in"))


def _same(actual: Any, wanted: Scalar) -> bool:
    # JSON's true is not JSON's 1, although Python's is.
    return isinstance(actual, bool) == isinstance(wanted, bool) and bool(actual == wanted)


def _ordered(op: str, actual: Any, wanted: Any) -> bool:
    if not _is_number(actual):
        return False
    return bool({"<": actual < wanted, "<=": actual <= wanted, ">": actual > wanted, ">=": actual >= wanted}[op])
