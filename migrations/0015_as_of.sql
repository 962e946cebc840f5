-- The log as it stood: what event-log/src/as_of.rs reads.

-- The position of a partition's last event that was recorded before an instant; 0 if there is none. Found by bisection:
-- positions have no gaps, and recorded_at never decreases.
CREATE FUNCTION log_position_before(of_partition smallint, instant timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
DECLARE
    before bigint := 0;
    after bigint;
    middle bigint;
    recorded timestamptz;
BEGIN
    SELECT h.position + 1 INTO after FROM heads h WHERE h.partition = of_partition;
    WHILE after - before > 1 LOOP
        middle := before + (after - before) / 2;
        SELECT e.recorded_at INTO recorded FROM events e
        WHERE e.partition = of_partition AND e.position = middle;
        IF recorded < instant THEN
            before := middle;
        ELSE
            after := middle;
        END IF;
    END LOOP;
    RETURN before;
END
$$;

-- The events of several streams of a partition, each after a version, none after a position; of each stream at most a
-- page, in order. The page is cut before the position is looked at: of a long stream an early point reads one page of the
-- index on (partition, aggregate_id, sequence), not what came later. A stream's positions grow with its sequence, so
-- what is left out of a page is its end.
CREATE FUNCTION log_streams_until(
    from_partition smallint, streams uuid[], after bigint[], until bigint, page integer
)
RETURNS SETOF events
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_bitmapscan = off
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT e.*
    FROM unnest(streams, after) AS s(id, after)
    CROSS JOIN LATERAL (
        SELECT * FROM events e
        WHERE e.partition = from_partition AND e.aggregate_id = s.id AND e.sequence > s.after
        ORDER BY e.sequence LIMIT page
    ) e
    WHERE e.position <= until
    ORDER BY e.position;
END
$$;
