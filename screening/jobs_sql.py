"""Which statements of the job table are worth reading as SQL? Each is one round trip."""

_RUNNING = """
    UPDATE screenings s
       SET state = 'running', attempt = s.attempt + 1, due_at = assay_now() + :lease, started_at = assay_now()
      FROM chosen
     WHERE s.id = chosen.id
 RETURNING s.id, s.platform_id, s.attempt, s.strikes, s.alone, s.priority, s.created_at, s.started_at
"""

# Best effort: two workers need not wait for each other over a tie-breaker.
_SERVED = """
, served AS (
    UPDATE turns SET served_at = assay_now()
     WHERE platform_id IN (
        SELECT platform_id FROM turns WHERE platform_id IN (SELECT platform_id FROM taken)
         ORDER BY platform_id FOR UPDATE SKIP LOCKED)
)
"""

# The attempt is noted in the same statement. Beside it, a worker that is stopped between two messages would leave a
# transaction half done, and its rows locked.
_WITH_INPUT = """
, noted AS (
    INSERT INTO attempts (screening_id, attempt, worker, alone) SELECT id, attempt, :worker, alone FROM taken
)
SELECT t.id AS screening_id, t.platform_id, t.attempt, t.strikes, t.alone, t.priority, t.created_at, t.started_at,
       b.source, b.traceparent, i.id AS image_id, i.blob_key, i.sha256
  FROM taken t
  JOIN submissions b ON b.screening_id = t.id
  LEFT JOIN images i ON i.screening_id = t.id
"""

# Fair share: each platform's due rows are numbered by rank, and the n-th row of a platform of weight w costs n / w. A
# batch takes the cheapest, so a platform with a hundred thousand rows and one with a single row share it. Ties go to
# whoever was served longest ago. Where enough fetches are under way, rows whose bytes are still to be fetched are
# passed over, which is looked up for a row only then. The pool is wider than the batch because rows that another worker
# is just claiming are skipped, not waited for.
#
# A flood comes faster than statistics are gathered, and a planner that takes the queue for a handful of rows reads and
# sorts all of it for each claim. So what waits is asked for by a function, of which there are no statistics (migration
# 0008), each platform in the order of its index, and the pool is looked up by primary key (`|| ''` fits no index).
CLAIM_BATCH = (
    """
WITH waiting AS MATERIALIZED (
    SELECT p.id, p.weight, coalesce(t.served_at, 'epoch') AS served_at
      FROM platforms p
      LEFT JOIN turns t ON t.platform_id = p.id
     CROSS JOIN LATERAL (
        SELECT FROM screenings
         WHERE platform_id = p.id AND texteq(state, 'queued') AND NOT alone AND due_at <= assay_now()
         ORDER BY rank LIMIT 1) first
), pool AS MATERIALIZED (
    SELECT s.id, s.rank, w.served_at,
           row_number() OVER (PARTITION BY w.id ORDER BY s.rank, s.id)::float / w.weight AS cost
      FROM waiting w
     CROSS JOIN LATERAL (
        SELECT id, rank FROM screenings
         WHERE platform_id = w.id AND texteq(state, 'queued') AND NOT alone AND due_at <= assay_now()
           AND (NOT (:sated OR w.id = ANY(CAST(:sated_platforms AS uuid[])))
                OR EXISTS (SELECT FROM images i WHERE i.screening_id = screenings.id))
         ORDER BY rank LIMIT :pool) s
), chosen AS MATERIALIZED (
    SELECT s.id
      FROM screenings s JOIN pool USING (id)
     WHERE s.id = ANY(ARRAY(SELECT id FROM pool)) AND s.state || '' = 'queued' AND NOT s.alone
     ORDER BY pool.cost, pool.served_at, pool.rank
     LIMIT :limit
       FOR UPDATE OF s SKIP LOCKED
), taken AS ("""
    + _RUNNING
    + ")"
    + _SERVED
    + _WITH_INPUT
)

CLAIM_ALONE = (
    """
WITH chosen AS MATERIALIZED (
    SELECT id FROM screenings
     WHERE state = 'queued' AND alone AND due_at <= assay_now()
     ORDER BY rank LIMIT 1
       FOR UPDATE SKIP LOCKED
), taken AS ("""
    + _RUNNING
    + ")"
    + _WITH_INPUT
)

RESCUE = """
WITH expired AS MATERIALIZED (
    SELECT id, strikes + alone::int AS strikes FROM screenings
     WHERE state = 'running' AND due_at <= assay_now()
     ORDER BY due_at LIMIT :limit
       FOR UPDATE SKIP LOCKED
)
UPDATE screenings s
   SET strikes = expired.strikes,
       alone = expired.strikes < :max_strikes,
       state = CASE WHEN expired.strikes < :max_strikes THEN 'queued' ELSE 'failed' END,
       finished_at = CASE WHEN expired.strikes < :max_strikes THEN NULL ELSE assay_now() END,
       error_code = CASE WHEN expired.strikes < :max_strikes THEN NULL ELSE 'worker_crashed' END,
       error_detail = CASE WHEN expired.strikes < :max_strikes THEN NULL
                           ELSE 'The worker died each time it processed this image by itself.' END,
       error_retryable = CASE WHEN expired.strikes < :max_strikes THEN NULL ELSE false END,
       due_at = assay_now(),
       announced_at = NULL
  FROM expired
 WHERE s.id = expired.id
RETURNING s.id, s.state, s.attempt
"""

ANNOUNCE = """
UPDATE screenings SET announced_at = assay_now()
 WHERE id IN (
    SELECT id FROM screenings
     WHERE texteq(state, 'queued') AND due_at <= assay_now()
       AND (announced_at IS NULL OR announced_at < assay_now() - :older_than)
     ORDER BY due_at LIMIT :limit
       FOR UPDATE SKIP LOCKED)
RETURNING id
"""

END_ATTEMPTS = """
UPDATE attempts a
   SET ended_at = assay_now(), detail = :detail,
       outcome = CASE WHEN a.screening_id = ANY(CAST(:held AS uuid[])) THEN :outcome ELSE 'fenced' END
  FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[])) AS e (id, attempt)
 WHERE a.screening_id = e.id AND a.attempt = e.attempt AND a.ended_at IS NULL
"""
