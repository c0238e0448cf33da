"""Which statements of the delivery table are worth reading as SQL? Each is one round trip."""

# Claims take turns, so that the limits below hold exactly: what one claim took, the next one sees.
CLAIM_LOCK = "SELECT pg_advisory_xact_lock(:family, 2)"

# Drains end one after the other; see worker/deliveries/turns.py.
END_LOCK = "SELECT pg_try_advisory_xact_lock(:family, 3)"

# Fair share: an endpoint has at most :per_endpoint attempts under way (an ordered one has one), a platform at most
# :per_platform. Rows are taken in the order of how much their platform already has under way, so that one platform's
# slow endpoints leave room for everybody else's.
_TAKEABLE = """
WITH busy AS MATERIALIZED (
    SELECT endpoint_id, platform_id, count(*) AS n FROM deliveries WHERE state = 'sending'
     GROUP BY endpoint_id, platform_id
), ready AS MATERIALIZED (
    SELECT e.id, e.platform_id, e.ordered, coalesce(b.n, 0) AS n,
           CASE WHEN e.ordered THEN 1 ELSE :per_endpoint END AS most
      FROM endpoints e LEFT JOIN busy b ON b.endpoint_id = e.id
     WHERE e.enabled AND (e.throttled_until IS NULL OR e.throttled_until <= assay_now())
       AND EXISTS (SELECT FROM deliveries d
                    WHERE d.endpoint_id = e.id AND d.state = 'pending' AND d.due_at <= assay_now())
), due AS (
    SELECT r.platform_id, d.id, d.due_at, r.n + row_number() OVER (PARTITION BY r.id ORDER BY d.due_at) AS depth, r.most
      FROM ready r CROSS JOIN LATERAL (
        SELECT id, due_at FROM deliveries
         WHERE endpoint_id = r.id AND state = 'pending' AND due_at <= assay_now()
         ORDER BY due_at LIMIT :per_endpoint) d
     WHERE NOT r.ordered
    UNION ALL
    SELECT r.platform_id, d.id, d.due_at, r.n + 1, r.most
      FROM ready r CROSS JOIN LATERAL (
        SELECT id, due_at, state FROM deliveries
         WHERE endpoint_id = r.id AND state IN ('pending', 'sending')
         ORDER BY created_at, id LIMIT 1) d
     WHERE r.ordered AND d.state = 'pending' AND d.due_at <= assay_now()
), ranked AS MATERIALIZED (
    SELECT due.id, due.due_at,
           row_number() OVER (PARTITION BY due.platform_id ORDER BY due.depth, due.due_at) + coalesce(b.n, 0) AS cost
      FROM due
      LEFT JOIN (SELECT platform_id, sum(n) AS n FROM busy GROUP BY platform_id) b USING (platform_id)
     WHERE due.depth <= due.most
)
"""

CLAIM = (
    _TAKEABLE
    + """
, chosen AS MATERIALIZED (
    SELECT d.id FROM deliveries d JOIN ranked USING (id)
     WHERE d.state = 'pending' AND ranked.cost <= :per_platform
     ORDER BY ranked.cost, ranked.due_at
     LIMIT :limit
       FOR UPDATE OF d SKIP LOCKED
), taken AS (
    UPDATE deliveries d
       SET state = 'sending', attempt = d.attempt + 1, due_at = assay_now() + :lease,
           first_attempt_at = coalesce(d.first_attempt_at, assay_now())
      FROM chosen WHERE d.id = chosen.id
 RETURNING d.id, d.event_id, d.endpoint_id, d.platform_id, d.attempt, d.failures
), logged AS (
    INSERT INTO delivery_attempts (delivery_id, attempt) SELECT id, attempt FROM taken
)
SELECT t.id AS delivery_id, t.attempt, t.failures, t.endpoint_id, t.platform_id, e.url, e.secret,
       CASE WHEN e.previous_secret_until > assay_now() THEN e.previous_secret END AS previous_secret,
       v.id AS event_id, v.type, v.data, v.created_at, s.traceparent
  FROM taken t
  JOIN endpoints e ON e.id = t.endpoint_id
  JOIN events v ON v.id = t.event_id
  LEFT JOIN submissions s ON s.screening_id = v.screening_id
"""
)

# By the same rules as a claim: what an endpoint's own slowness, pause or order holds back is not late. What a pause has
# held back is due from its end.
OLDEST_DUE = (
    _TAKEABLE
    + """
SELECT extract(epoch FROM assay_now() - min(greatest(ranked.due_at, e.throttled_until)))
  FROM ranked JOIN deliveries d USING (id) JOIN endpoints e ON e.id = d.endpoint_id
 WHERE ranked.cost <= :per_platform
"""
)

# The fence: a sender that lost its lease writes its log line, and nothing else of the delivery. What successes mean for
# their endpoints is written along, since most batches hold nothing else; in order of id, so that two senders never wait
# for each other in a circle.
RECORD = """
WITH o AS MATERIALIZED (
    SELECT * FROM unnest(cast(:ids AS uuid[]), cast(:attempts AS int[]), cast(:delivered AS bool[]),
                         cast(:waits AS interval[]), cast(:durations AS int[]), cast(:statuses AS int[]),
                         cast(:errors AS text[]), cast(:responses AS text[]))
               AS o(id, attempt, delivered, wait, duration_ms, status, error, response)
), logged AS (
    UPDATE delivery_attempts a
       SET duration_ms = o.duration_ms, status = o.status, error = o.error, response = o.response
      FROM o WHERE a.delivery_id = o.id AND a.attempt = o.attempt
), recovered AS MATERIALIZED (
    SELECT id FROM endpoints WHERE id = ANY(cast(:healthy AS uuid[])) AND failing_since IS NOT NULL
     ORDER BY id FOR UPDATE
), healthy AS (
    UPDATE endpoints e SET failing_since = NULL FROM recovered r WHERE e.id = r.id
)
UPDATE deliveries d
   SET state = CASE WHEN o.delivered THEN 'delivered'
                    WHEN assay_now() + o.wait > d.first_attempt_at + :give_up THEN 'dead'
                    ELSE 'pending' END,
       delivered_at = CASE WHEN o.delivered THEN assay_now() END,
       failures = d.failures + (NOT o.delivered)::int,
       due_at = assay_now() + o.wait
  FROM o
 WHERE d.id = o.id AND d.attempt = o.attempt AND d.state = 'sending'
RETURNING d.id
"""

RESCUE = """
WITH expired AS MATERIALIZED (
    SELECT id FROM deliveries WHERE state = 'sending' AND due_at <= assay_now()
     ORDER BY due_at LIMIT :limit
       FOR UPDATE SKIP LOCKED
), back AS (
    UPDATE deliveries d SET state = 'pending', due_at = assay_now() FROM expired WHERE d.id = expired.id
 RETURNING d.id, d.attempt
), logged AS (
    UPDATE delivery_attempts a SET error = 'interrupted' FROM back
     WHERE a.delivery_id = back.id AND a.attempt = back.attempt
)
SELECT count(*) FROM back
"""

ANY_EXPIRED = "SELECT EXISTS (SELECT FROM deliveries WHERE state = 'sending' AND due_at <= assay_now())"

DEAD_LETTERS = """
SELECT count(*) FROM deliveries d
 WHERE d.state = 'dead'
   AND NOT EXISTS (SELECT FROM deliveries later
                    WHERE later.event_id = d.event_id AND later.endpoint_id = d.endpoint_id AND later.replay > d.replay)
"""

REPLAY_RANGE = """
INSERT INTO deliveries (event_id, endpoint_id, platform_id, replay)
SELECT v.id, e.id, e.platform_id, coalesce((SELECT max(d.replay) + 1 FROM deliveries d
                                             WHERE d.event_id = v.id AND d.endpoint_id = e.id), 0)
  FROM endpoints e
  JOIN events v ON v.platform_id = e.platform_id
 WHERE e.id = :endpoint AND v.created_at >= :since AND v.created_at < coalesce(cast(:until AS timestamptz), 'infinity')
   AND (e.types = '{}' OR v.type = ANY(e.types)) AND v.type <> 'webhook.test'
   AND NOT EXISTS (SELECT FROM deliveries d
                    WHERE d.event_id = v.id AND d.endpoint_id = e.id
                      AND (d.state IN ('pending', 'sending') OR (d.state = 'delivered' AND :undelivered)))
 ORDER BY v.created_at, v.id
 LIMIT :limit
ON CONFLICT DO NOTHING
RETURNING id
"""
