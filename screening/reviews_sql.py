"""Which statements of the review queue are worth reading as SQL? Each is one round trip and walks one partial index."""

# Each platform's lanes (everybody's and the leads') are walked in rank order from their own index, so the cost does not
# grow with what waits. What the actor has decided before or passed on lately is left out. The pool is wider than one
# because rows that somebody else is just claiming are skipped, not waited for.
_CLAIM = """
WITH granted AS (
    SELECT * FROM unnest(CAST(:platforms AS uuid[]), CAST(:leads AS boolean[])) AS g (platform_id, lead)
), pool AS MATERIALIZED (
    SELECT r.id, r.rank
      FROM granted g
     CROSS JOIN (VALUES (false), (true)) AS lane (lead_only)
     CROSS JOIN LATERAL (
        SELECT r.id, r.rank FROM reviews r
         WHERE r.platform_id = g.platform_id AND r.state = 'pending' AND r.lead_only = lane.lead_only {queue}
           AND NOT EXISTS (SELECT FROM decisions d
                            WHERE d.review_id = r.id AND d.actor_id = :actor AND d.undone_at IS NULL)
           AND NOT EXISTS (SELECT FROM passings p
                            WHERE p.review_id = r.id AND p.actor_id = :actor AND p.created_at > assay_now() - :passed)
         ORDER BY r.rank LIMIT :pool) r
     WHERE g.lead OR NOT lane.lead_only
), chosen AS MATERIALIZED (
    SELECT r.id FROM reviews r JOIN pool USING (id)
     WHERE r.state = 'pending'
     ORDER BY pool.rank LIMIT 1
       FOR UPDATE OF r SKIP LOCKED
)
UPDATE reviews r
   SET state = 'claimed', claim = r.claim + 1, claimed_by = :actor, claimed_at = assay_now(),
       lease_until = assay_now() + :lease
  FROM chosen
 WHERE r.id = chosen.id
RETURNING r.id
"""

CLAIM_ANY = _CLAIM.format(queue="")
CLAIM_FROM_QUEUE = _CLAIM.format(queue="AND r.queue = :queue")

LAPSED = """
UPDATE reviews SET state = 'pending', claimed_by = NULL, claimed_at = NULL, lease_until = NULL
 WHERE id IN (
    SELECT id FROM reviews WHERE state = 'claimed' AND lease_until <= assay_now()
     ORDER BY lease_until LIMIT :limit
       FOR UPDATE SKIP LOCKED)
RETURNING id
"""

SETTLED = """
SELECT id FROM reviews WHERE state = 'settling' AND settles_at <= assay_now()
 ORDER BY settles_at LIMIT :limit
   FOR UPDATE SKIP LOCKED
"""

# The queues that have something pending are found by jumping from name to name in the index, not by reading through it;
# counts stop at a bound, so that a board costs the same however much waits.
BOARD = """
WITH RECURSIVE granted AS (
    SELECT * FROM unnest(CAST(:platforms AS uuid[]), CAST(:leads AS boolean[])) AS g (platform_id, lead)
), names AS (
    SELECT g.platform_id, g.lead,
           (SELECT r.queue FROM reviews r WHERE r.platform_id = g.platform_id AND r.state = 'pending'
             ORDER BY r.queue LIMIT 1) AS queue
      FROM granted g
    UNION ALL
    SELECT n.platform_id, n.lead,
           (SELECT r.queue FROM reviews r
             WHERE r.platform_id = n.platform_id AND r.state = 'pending' AND r.queue > n.queue
             ORDER BY r.queue LIMIT 1)
      FROM names n WHERE n.queue IS NOT NULL
)
SELECT n.platform_id, p.name AS platform_name, n.queue, lane.lead_only,
       (SELECT count(*) FROM (
           SELECT FROM reviews r WHERE r.platform_id = n.platform_id AND r.queue = n.queue
                                   AND r.lead_only = lane.lead_only AND r.state = 'pending'
            LIMIT :bound + 1) c) AS pending,
       (SELECT count(*) FROM (
           SELECT FROM reviews r WHERE r.platform_id = n.platform_id AND r.queue = n.queue
                                   AND r.lead_only = lane.lead_only AND r.state = 'pending'
                                   AND r.due_at < assay_now() LIMIT :bound + 1) c) AS overdue,
       (SELECT r.created_at FROM reviews r WHERE r.platform_id = n.platform_id AND r.queue = n.queue
           AND r.lead_only = lane.lead_only AND r.state = 'pending' ORDER BY r.created_at LIMIT 1) AS oldest_at,
       (SELECT r.due_at FROM reviews r WHERE r.platform_id = n.platform_id AND r.queue = n.queue
           AND r.lead_only = lane.lead_only AND r.state = 'pending' ORDER BY r.due_at LIMIT 1) AS next_due_at
  FROM names n
  JOIN platforms p ON p.id = n.platform_id
 CROSS JOIN (VALUES (false), (true)) AS lane (lead_only)
 WHERE n.queue IS NOT NULL AND (n.lead OR NOT lane.lead_only)
 ORDER BY p.name, n.queue, lane.lead_only
"""

PLACE = """
INSERT INTO reviews (id, platform_id, screening_id, queue, risk, due_at, rank, golden_truth)
SELECT id, platform_id, screening_id, queue, risk, assay_now() + due_in, assay_now() + due_in - risk * :head_start,
       golden_truth
  FROM jsonb_to_recordset(CAST(:rows AS jsonb))
    AS r (id uuid, platform_id uuid, screening_id uuid, queue text, risk float8, due_in interval, golden_truth text)
"""
