"""How good are policy and people? From what people decided, above all about items picked at random.

Only decided reviews count, so that nothing of a first decision shows before the second; the newest of the window are
read, up to a bound. What was sampled from `allow` and checked among `block` is the only unbiased view of what the
policy does by itself.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from screening import statistics
from screening.ids import Prefix, encode
from screening.statistics import Estimate

MOST = 10_000
SCORE_BINS = 20
CURVE_BINS = 10

# Newest first along (platform, created_at), so the cost is that of what is read.
DECIDED = text("""
SELECT r.id, r.queue, r.verdict, r.golden_truth, f.outcome, f.guard, coalesce(f.probability, f.score) AS likely,
       extract(epoch FROM r.decided_at - r.created_at) / 3600 AS hours
  FROM reviews r JOIN findings f ON f.screening_id = r.screening_id
 WHERE r.platform_id = :platform AND r.state = 'decided'
   AND r.created_at >= assay_now() - make_interval(days => :days)
 ORDER BY r.created_at DESC LIMIT :most
""")
DECISIONS = text("""
SELECT d.review_id, d.alias, d.stage, d.verdict, d.seconds, d.reverses IS NOT NULL AS reversal,
       d.bulk_id IS NOT NULL AS bulk,
       coalesce(e.seconds, 0) AS exposure
  FROM decisions d LEFT JOIN exposures e ON e.review_id = d.review_id AND e.actor_id = d.actor_id
 WHERE d.review_id = ANY(:reviews) AND d.settled_at IS NOT NULL
""")
SCORES = text("""
SELECT least(floor(score * :bins), :bins - 1)::int AS bin, count(*) AS count
  FROM (SELECT score FROM findings
         WHERE platform_id = :platform AND created_at >= assay_now() - make_interval(days => :days)
         ORDER BY created_at DESC LIMIT :most) f
 GROUP BY 1 ORDER BY 1
""")

Rows = Sequence[Row[Any]]


def quality(session: Session, platform_id: UUID, *, days: int = 30) -> dict[str, Any]:
    """Every figure of the quality page, each with n and a 95 % interval."""
    window = {"platform": platform_id, "days": days, "most": MOST}
    reviews = session.execute(DECIDED, window).all()
    decisions = session.execute(DECISIONS, {"reviews": [row.id for row in reviews]}).all()
    asked = [row for row in reviews if row.golden_truth is None]
    counts = {row.bin: row.count for row in session.execute(SCORES, {**window, "bins": SCORE_BINS})}
    return {
        "object": "quality",
        "platform": encode(Prefix.PLATFORM, platform_id),
        "days": days,
        "truncated": len(reviews) == MOST,
        **_policy(asked),
        **_people(reviews, decisions),
        **_pace(asked, decisions),
        "calibration": _curve(asked),
        "scores": [
            {"low": b / SCORE_BINS, "high": (b + 1) / SCORE_BINS, "count": counts.get(b, 0)} for b in range(SCORE_BINS)
        ],
    }


def _policy(asked: Rows) -> dict[str, Any]:
    """What the policy sends to people, and what it does without them, where people looked afterwards."""
    queues: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in asked:
        if row.guard != "sampled":
            queues[row.queue].append(row)
    allowed = [row for row in asked if row.guard == "sampled" and row.outcome == "review"]
    blocked = [row for row in asked if row.guard == "sampled" and row.outcome == "block"]
    return {
        "queue_precision": [
            {"queue": queue, "precision": _verdicts(rows, "fake").to_json()} for queue, rows in sorted(queues.items())
        ],
        "auto_allow_correct": _verdicts(allowed, "authentic").to_json(),
        "auto_block_correct": _verdicts(blocked, "fake").to_json(),
    }


def _verdicts(rows: Rows, verdict: str) -> Estimate:
    return statistics.share(sum(row.verdict == verdict for row in rows), len(rows))


def _people(reviews: Rows, decisions: Rows) -> dict[str, Any]:
    golden = [row for row in reviews if row.golden_truth is not None]
    real = {row.id for row in reviews if row.golden_truth is None}
    pairs: dict[UUID, list[str]] = defaultdict(list)
    for row in decisions:
        if row.review_id in real and row.stage in ("first", "second") and not row.reversal:
            pairs[row.review_id].append(row.verdict)
    reversed_ones = {row.review_id for row in decisions if row.reversal}
    right = sum(row.verdict == row.golden_truth for row in golden)
    return {
        "agreement_alpha": statistics.agreement(list(pairs.values())).to_json(),
        "agreement_share": _alike(pairs.values()).to_json(),
        "golden_accuracy": statistics.share(right, len(golden)).to_json(),
        "overturn_rate": statistics.share(len(reversed_ones), len(real)).to_json(),
    }


def _alike(pairs: Iterable[list[str]]) -> Estimate:
    """How many of the items that two people decided they decided alike.

    Beside alpha, because policies ask twice mostly about fakes: where nearly all are alike, alpha is near 0 at best.
    """
    twice = [verdicts for verdicts in pairs if len(verdicts) == 2]
    return statistics.share(sum(first == second for first, second in twice), len(twice))


def _pace(asked: Rows, decisions: Rows) -> dict[str, Any]:
    made = [row for row in decisions if not row.reversal]
    single = [
        float(row.seconds) for row in made if not row.bulk
    ]  # look-alikes decided as one took no time of their own
    by_alias: dict[str, list[float]] = defaultdict(list)
    for row in made:
        by_alias[row.alias].append(float(row.exposure))
    return {
        "seconds_to_decision": statistics.middle(single).to_json(),
        "hours_to_decision": statistics.middle([float(row.hours) for row in asked]).to_json(),
        "exposure_seconds_per_decision": statistics.average([float(row.exposure) for row in made]).to_json(),
        "exposure_by_reviewer": [
            {"reviewer": alias, "seconds": round(sum(seconds), 1), "decisions": len(seconds)}
            for alias, seconds in sorted(by_alias.items())
        ],
    }


def _curve(asked: Rows) -> list[dict[str, Any]]:
    """Of the images that the detector found so likely fake, how many were? Over all reviewed, not over all images."""
    bins: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in asked:
        bins[min(int(row.likely * CURVE_BINS), CURVE_BINS - 1)].append(row)
    return [
        {
            "low": number / CURVE_BINS,
            "high": (number + 1) / CURVE_BINS,
            "mean": round(sum(row.likely for row in rows) / len(rows), 6),
            "fake": _verdicts(rows, "fake").to_json(),
        }
        for number, rows in sorted(bins.items())
    ]
