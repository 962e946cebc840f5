-- The log. Partition is the first column of every key, so that the tables can be distributed by it.
-- Nothing here depends on a global sequence, on the order of transaction ids, on advisory locks or NOTIFY.

-- What a log is, fixed when it is created.
CREATE TABLE log_settings (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    log_id     uuid NOT NULL,
    partitions smallint NOT NULL CHECK (partitions BETWEEN 1 AND 4096),
    -- A MAC of log_id: the log refuses to open with another master key.
    key_check  bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row per partition; its lock is the only lock an append takes. Updated by every batch: the free
-- space lets each update stay on its page (HOT), where the next one prunes it.
CREATE TABLE heads (
    partition   smallint PRIMARY KEY,
    position    bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    -- The last link of the partition's chain.
    chain       bytea NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- The events. json, not jsonb: it keeps the bytes that the hash is taken over. Fixed columns come first,
-- widest first, so that no row is padded.
CREATE TABLE events (
    position       bigint NOT NULL,
    sequence       bigint NOT NULL,
    recorded_at    timestamptz NOT NULL,
    aggregate_id   uuid NOT NULL,
    partition      smallint NOT NULL,
    aggregate_type text NOT NULL,
    event_type     text NOT NULL,
    event_version  text NOT NULL,
    payload        json NOT NULL,
    metadata       json NOT NULL,
    hash           bytea NOT NULL,
    PRIMARY KEY (partition, position),
    UNIQUE (partition, aggregate_id, sequence)
);

-- One link per batch and partition: the chain that makes a removed, added or reordered event visible.
CREATE TABLE links (
    partition      smallint NOT NULL,
    position       bigint NOT NULL,
    first_position bigint NOT NULL,
    recorded_at    timestamptz NOT NULL,
    chain          bytea NOT NULL,
    PRIMARY KEY (partition, position)
);

-- Commands that were accepted, in the partition of their target, kept for retries.
CREATE TABLE commands (
    position    bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    command_id  uuid NOT NULL,
    partition   smallint NOT NULL,
    fingerprint bytea NOT NULL,
    -- Ids and versions; never a token, nothing personal.
    result      text NOT NULL,
    -- The positions of a command that touched several partitions, as a token; else its last event has the
    -- number in `position`, 0 if it had none.
    positions   text,
    PRIMARY KEY (partition, command_id)
);

CREATE TABLE claims (
    partition smallint NOT NULL,
    kind      text NOT NULL,
    hash      bytea NOT NULL,
    owner     uuid NOT NULL,
    PRIMARY KEY (partition, kind, hash)
);

CREATE TABLE secrets (
    partition smallint NOT NULL,
    owner     uuid NOT NULL,
    kind      text NOT NULL,
    value     bytea NOT NULL,
    PRIMARY KEY (partition, owner, kind)
);

-- Data keys of the people in the log, wrapped by the master key. An erased one stays as a tombstone.
CREATE TABLE subject_keys (
    partition     smallint NOT NULL,
    subject       uuid NOT NULL,
    wrapped       bytea,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    erased_at     timestamptz,
    -- The heads at erasure: once every projector has passed them, the erasure is complete.
    erased_heads  text,
    PRIMARY KEY (partition, subject),
    CHECK ((wrapped IS NULL) = (erased_at IS NOT NULL)),
    CHECK ((erased_at IS NULL) = (erased_heads IS NULL))
);

CREATE TABLE snapshots (
    partition      smallint NOT NULL,
    aggregate_id   uuid NOT NULL,
    aggregate_type text NOT NULL,
    -- The form of the state; one of another form is not read.
    form           text NOT NULL,
    sequence       bigint NOT NULL,
    position       bigint NOT NULL,
    recorded_at    timestamptz NOT NULL,
    payload        json NOT NULL,
    PRIMARY KEY (partition, aggregate_id)
);

CREATE TABLE checkpoints (
    partition  smallint NOT NULL,
    projector  text NOT NULL,
    position   bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (partition, projector)
) WITH (fillfactor = 50);

CREATE TABLE leases (
    partition  smallint NOT NULL,
    projector  text NOT NULL,
    owner      text NOT NULL,
    epoch      bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (partition, projector)
) WITH (fillfactor = 50);

CREATE TABLE parked (
    partition smallint NOT NULL,
    projector text NOT NULL,
    document  text NOT NULL,
    position  bigint NOT NULL,
    error     text NOT NULL,
    attempts  integer NOT NULL DEFAULT 1,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (partition, projector, document, position)
);

-- The events under the names and types of postgres-es, for its readers. A look-up by the text of an id
-- cannot use an index: it is for tools and tests.
CREATE VIEW cqrs_events AS
SELECT aggregate_type, aggregate_id::text AS aggregate_id, sequence, event_type, event_version, payload,
       metadata
FROM events;

-- Bytes with their length before them, four bytes, the highest first.
CREATE FUNCTION log_part(part bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN int4send(octet_length(part)) || part;

-- The hash of an event: over its partition, position, stream, sequence, type, version, recorded_at and
-- the exact bytes of payload and metadata, each with its length before it. (Stable as convert_to is: declared
-- immutable it would not be inlined, and cost forty times as much.)
CREATE FUNCTION log_event_hash(
    at_partition smallint, at_position bigint, aggregate_type text, aggregate_id uuid, sequence bigint,
    event_type text, event_version text, recorded_at timestamptz, payload text, metadata text
) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(
    '\x00000002'::bytea || int2send(at_partition) || '\x00000008'::bytea || int8send(at_position)
    || int4send(octet_length(aggregate_type)) || convert_to(aggregate_type, 'UTF8')
    || '\x00000010'::bytea || uuid_send(aggregate_id) || '\x00000008'::bytea || int8send(sequence)
    || int4send(octet_length(event_type)) || convert_to(event_type, 'UTF8')
    || int4send(octet_length(event_version)) || convert_to(event_version, 'UTF8')
    || '\x00000008'::bytea || timestamptz_send(recorded_at)
    || int4send(octet_length(payload)) || convert_to(payload, 'UTF8')
    || int4send(octet_length(metadata)) || convert_to(metadata, 'UTF8'));

-- Appends a batch of requests, each all or nothing, and says of each what came of it.
--
-- Either the requests are all of one partition, or there is just one. No two touch the same stream, claim,
-- secret, subject or command, so a batch is judged as sets. It runs as one statement of its own: every
-- statement in here sees what was committed before it got the heads' locks, and the commit releases them.
--
-- Verdicts: 0 appended, 1 command known (see stored_*), 2 version conflict, 3 claim taken, 4 subject has a
-- key, 5 subject erased; null if all were appended. Request i has its events at heads[slot] + offsets[i] + 1
-- and on, where `heads` are the positions before the batch and null offsets are those that were passed.
CREATE FUNCTION log_append(
    -- Every partition touched, ascending; a `slot` below is an index into it.
    partitions smallint[],
    -- What to record the events at; null is the clock of this machine.
    now_at timestamptz,
    -- The requests whose command may be known. One that is not among them and is known after all fails the
    -- whole batch by its key.
    look_up integer[],
    -- Per request: its command, the slot of the command's row, how many events it has (in its one
    -- partition), and how many all requests before it have.
    r_command uuid[], r_slot integer[], r_fingerprint bytea[], r_result text[], r_events bigint[],
    r_offset bigint[],
    -- Per event: its request, its slot, its number within request and slot from 1, and what is stored.
    e_request integer[], e_slot integer[], e_nth bigint[], e_aggregate_type text[], e_aggregate_id uuid[],
    e_sequence bigint[], e_event_type text[], e_event_version text[], e_payload text[], e_metadata text[],
    -- Per stream written or required: the version it must have.
    c_request integer[], c_slot integer[], c_aggregate_id uuid[], c_version bigint[],
    -- Per claim: to take, or to release.
    k_request integer[], k_slot integer[], k_kind text[], k_hash bytea[], k_owner uuid[], k_take boolean[],
    -- Per secret: a null value drops it.
    s_request integer[], s_slot integer[], s_owner uuid[], s_kind text[], s_value bytea[],
    -- Per data key: a new one, or null to destroy the one there is and leave a tombstone.
    d_request integer[], d_slot integer[], d_subject uuid[], d_wrapped bytea[],
    OUT verdicts smallint[], OUT heads bigint[], OUT offsets bigint[], OUT recorded timestamptz,
    OUT stored_request integer[], OUT stored_fingerprint bytea[], OUT stored_result text[],
    OUT stored_position bigint[], OUT stored_positions text[], OUT stored_recorded_at timestamptz[]
)
LANGUAGE plpgsql
-- Whatever the statistics said when a connection planned this: by index, always.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    conflicting integer[];
    refused_request integer[];
    refused_verdict smallint[];
    written_partitions smallint[] := partitions;
    written_counts bigint[];
    written_hashes bytea[];
    spanning text;
    i integer;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'log_append must run at read committed';
    END IF;

    -- The clock is read after the last lock: recorded_at follows commit order.
    SELECT array_agg(h.position), greatest(coalesce(now_at, clock_timestamp()), max(h.recorded_at))
    INTO heads, recorded
    FROM (
        SELECT h.position, h.recorded_at FROM heads h WHERE h.partition = ANY (partitions)
        ORDER BY h.partition FOR NO KEY UPDATE
    ) h;
    IF cardinality(heads) IS DISTINCT FROM cardinality(partitions) THEN
        RAISE EXCEPTION 'the log has no such partition';
    END IF;

    IF cardinality(look_up) > 0 THEN
        SELECT array_agg(l.request), array_agg(c.fingerprint), array_agg(c.result), array_agg(c.position),
               array_agg(c.positions), array_agg(c.recorded_at)
        INTO stored_request, stored_fingerprint, stored_result, stored_position, stored_positions,
             stored_recorded_at
        FROM unnest(look_up) AS l(request)
        JOIN commands c ON c.partition = partitions[r_slot[l.request]]
                       AND c.command_id = r_command[l.request];
    END IF;

    SELECT array_agg(c.request) INTO conflicting
    FROM unnest(c_request, c_slot, c_aggregate_id, c_version) AS c(request, slot, id, version)
    WHERE c.version <> coalesce((
        SELECT e.sequence FROM events e
        WHERE e.partition = partitions[c.slot] AND e.aggregate_id = c.id
        ORDER BY e.sequence DESC LIMIT 1), 0);

    IF cardinality(k_request) > 0 OR cardinality(d_request) > 0 THEN
        SELECT array_agg(w.request), array_agg(w.verdict) INTO refused_request, refused_verdict
        FROM (
            SELECT k.request, 3::smallint AS verdict
            FROM unnest(k_request, k_slot, k_kind, k_hash, k_owner, k_take)
                AS k(request, slot, kind, hash, owner, take)
            JOIN claims c ON c.partition = partitions[k.slot] AND c.kind = k.kind AND c.hash = k.hash
            WHERE k.take AND c.owner <> k.owner
            UNION ALL
            SELECT d.request, CASE WHEN s.wrapped IS NULL THEN 5 ELSE 4 END
            FROM unnest(d_request, d_slot, d_subject, d_wrapped) AS d(request, slot, subject, wrapped)
            JOIN subject_keys s ON s.partition = partitions[d.slot] AND s.subject = d.subject
            WHERE d.wrapped IS NOT NULL
        ) w;
    END IF;

    IF stored_request IS NOT NULL OR conflicting IS NOT NULL OR refused_request IS NOT NULL THEN
        -- The last one written counts: a known command is known whatever else is wrong with the request.
        verdicts := array_fill(0::smallint, ARRAY[cardinality(r_command)]);
        FOR n IN 1 .. coalesce(cardinality(refused_request), 0) LOOP
            verdicts[refused_request[n]] := refused_verdict[n];
        END LOOP;
        FOREACH i IN ARRAY coalesce(conflicting, '{}') LOOP
            verdicts[i] := 2;
        END LOOP;
        FOREACH i IN ARRAY coalesce(stored_request, '{}') LOOP
            verdicts[i] := 1;
        END LOOP;
        -- The others move up: no number is left out.
        SELECT array_agg(r.before ORDER BY r.request) INTO offsets
        FROM (
            SELECT r.request, coalesce(sum(CASE WHEN verdicts[r.request] = 0 THEN r.events ELSE 0 END)
                OVER (ORDER BY r.request ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::bigint AS before
            FROM unnest(r_events) WITH ORDINALITY AS r(events, request)
        ) r;
        IF NOT 0 = ANY (verdicts) THEN
            RETURN;
        END IF;
        r_offset := offsets;
    END IF;

    IF cardinality(partitions) > 1 THEN
        SELECT coalesce(string_agg(partitions[e.slot] || ':' || heads[e.slot] + e.events, ',' ORDER BY e.slot), '')
        INTO spanning
        FROM (SELECT slot, count(*) AS events FROM unnest(e_slot) slot GROUP BY slot) e;
    END IF;

    -- The hashes come as the rows are written, and these in the order of the arrays.
    WITH written AS (
        INSERT INTO events (position, sequence, recorded_at, aggregate_id, partition, aggregate_type,
                            event_type, event_version, payload, metadata, hash)
        SELECT e.position, e.sequence, recorded, e.aggregate_id, e.partition, e.aggregate_type,
               e.event_type, e.event_version, e.payload::json, e.metadata::json,
               log_event_hash(e.partition, e.position, e.aggregate_type, e.aggregate_id, e.sequence,
                              e.event_type, e.event_version, recorded, e.payload, e.metadata)
        FROM (
            SELECT partitions[e.slot] AS partition, heads[e.slot] + r_offset[e.request] + e.nth AS position,
                   e.aggregate_type, e.aggregate_id, e.sequence, e.event_type, e.event_version, e.payload,
                   e.metadata
            FROM unnest(e_request, e_slot, e_nth, e_aggregate_type, e_aggregate_id, e_sequence,
                        e_event_type, e_event_version, e_payload, e_metadata)
                AS e(request, slot, nth, aggregate_type, aggregate_id, sequence, event_type,
                     event_version, payload, metadata)
            WHERE verdicts IS NULL OR verdicts[e.request] = 0
        ) e
        RETURNING hash
    ), noted AS (
        INSERT INTO commands (position, recorded_at, command_id, partition, fingerprint, result, positions)
        SELECT CASE WHEN r.events > 0 AND spanning IS NULL
                    THEN heads[r.slot] + r_offset[r.request] + r.events ELSE 0 END,
               recorded, r.command, partitions[r.slot], r.fingerprint, r.result, spanning
        FROM unnest(r_command, r_slot, r_fingerprint, r_result, r_events) WITH ORDINALITY
            AS r(command, slot, fingerprint, result, events, request)
        WHERE verdicts IS NULL OR verdicts[r.request] = 0
    )
    SELECT ARRAY[count(*)], ARRAY[string_agg(hash, ''::bytea)] INTO written_counts, written_hashes FROM written;

    IF spanning IS NOT NULL THEN
        SELECT array_agg(w.partition), array_agg(w.events), array_agg(w.hashes)
        INTO written_partitions, written_counts, written_hashes
        FROM (
            SELECT e.partition, count(*) AS events, string_agg(e.hash, ''::bytea ORDER BY e.position) AS hashes
            FROM unnest(partitions, heads) AS h(partition, position)
            JOIN events e ON e.partition = h.partition AND e.position > h.position
            GROUP BY e.partition
        ) w;
    END IF;

    IF written_counts[1] > 0 THEN
        WITH moved AS (
            UPDATE heads h
            SET position = h.position + w.events, recorded_at = recorded,
                chain = sha256(
                    log_part(h.chain) || log_part(int2send(h.partition))
                    || log_part(int8send(h.position + 1)) || log_part(int8send(h.position + w.events))
                    || log_part(w.hashes))
            FROM unnest(written_partitions, written_counts, written_hashes) AS w(partition, events, hashes)
            WHERE h.partition = w.partition
            RETURNING h.partition, h.position, w.events, h.chain
        )
        INSERT INTO links (partition, position, first_position, recorded_at, chain)
        SELECT m.partition, m.position, m.position - m.events + 1, recorded, m.chain FROM moved m;
    END IF;

    IF cardinality(k_request) > 0 THEN
        DELETE FROM claims c
        USING unnest(k_request, k_slot, k_kind, k_hash, k_owner, k_take)
            AS k(request, slot, kind, hash, owner, take)
        WHERE (verdicts IS NULL OR verdicts[k.request] = 0) AND NOT k.take AND c.partition = partitions[k.slot]
          AND c.kind = k.kind AND c.hash = k.hash AND c.owner = k.owner;
        -- One that is there is the owner's own: anybody else's was a verdict.
        INSERT INTO claims (partition, kind, hash, owner)
        SELECT partitions[k.slot], k.kind, k.hash, k.owner
        FROM unnest(k_request, k_slot, k_kind, k_hash, k_owner, k_take)
            AS k(request, slot, kind, hash, owner, take)
        WHERE (verdicts IS NULL OR verdicts[k.request] = 0) AND k.take
        ON CONFLICT DO NOTHING;
    END IF;

    IF cardinality(s_request) > 0 THEN
        DELETE FROM secrets s
        USING unnest(s_request, s_slot, s_owner, s_kind, s_value) AS n(request, slot, owner, kind, value)
        WHERE (verdicts IS NULL OR verdicts[n.request] = 0) AND n.value IS NULL AND s.partition = partitions[n.slot]
          AND s.owner = n.owner AND s.kind = n.kind;
        INSERT INTO secrets (partition, owner, kind, value)
        SELECT partitions[n.slot], n.owner, n.kind, n.value
        FROM unnest(s_request, s_slot, s_owner, s_kind, s_value) AS n(request, slot, owner, kind, value)
        WHERE (verdicts IS NULL OR verdicts[n.request] = 0) AND n.value IS NOT NULL
        ON CONFLICT (partition, owner, kind) DO UPDATE SET value = excluded.value;
    END IF;

    IF cardinality(d_request) > 0 THEN
        INSERT INTO subject_keys AS k (partition, subject, wrapped, created_at, erased_at, erased_heads)
        SELECT partitions[d.slot], d.subject, d.wrapped, recorded,
               CASE WHEN d.wrapped IS NULL THEN recorded END,
               CASE WHEN d.wrapped IS NULL THEN (
                   SELECT coalesce(string_agg(h.partition || ':' || h.position, ',' ORDER BY h.partition), '')
                   FROM heads h WHERE h.position > 0) END
        FROM unnest(d_request, d_slot, d_subject, d_wrapped) AS d(request, slot, subject, wrapped)
        WHERE (verdicts IS NULL OR verdicts[d.request] = 0)
        ON CONFLICT (partition, subject) DO UPDATE
        SET wrapped = NULL, erased_at = excluded.erased_at, erased_heads = excluded.erased_heads
        WHERE k.erased_at IS NULL;
    END IF;
END
$$;

-- Everything a decision reads, in one snapshot: a command's row, who holds claims, and of each stream its
-- snapshot (of the form asked for, if any) and its events after that or after `w_after`.
-- `what` is 1 for the command's row, 2 for a claim, 3 for a snapshot, 4 for an event.
CREATE FUNCTION log_read(
    command_partition smallint, command uuid,
    k_partition smallint[], k_kind text[], k_hash bytea[],
    w_partition smallint[], w_aggregate_id uuid[], w_after bigint[], w_form text[],
    page integer, with_metadata boolean
)
RETURNS TABLE (
    what smallint, ordinal integer, owner uuid, fingerprint bytea, positions text,
    "position" bigint, sequence bigint, aggregate_type text, event_type text, event_version text,
    recorded_at timestamptz, payload json, metadata json
)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH wanted AS MATERIALIZED (
        SELECT w.partition, w.id, w.ordinal::integer AS ordinal, coalesce(s.sequence, w.after) AS after,
               s.sequence, s.position, s.aggregate_type, s.recorded_at, s.payload
        FROM unnest(w_partition, w_aggregate_id, w_after, w_form) WITH ORDINALITY
            AS w(partition, id, after, form, ordinal)
        LEFT JOIN snapshots s ON s.partition = w.partition AND s.aggregate_id = w.id AND s.form = w.form
    )
    SELECT 1::smallint, 0, NULL::uuid, c.fingerprint, c.positions, c.position, 0::bigint, c.result,
           NULL::text, NULL::text, c.recorded_at, NULL::json, NULL::json
    FROM commands c WHERE c.partition = command_partition AND c.command_id = command
    UNION ALL
    SELECT 2::smallint, k.ordinal::integer, c.owner, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL
    FROM unnest(k_partition, k_kind, k_hash) WITH ORDINALITY AS k(partition, kind, hash, ordinal)
    JOIN claims c ON c.partition = k.partition AND c.kind = k.kind AND c.hash = k.hash
    UNION ALL
    SELECT 3::smallint, w.ordinal, NULL, NULL, NULL, w.position, w.sequence, w.aggregate_type, NULL, NULL,
           w.recorded_at, w.payload, NULL
    FROM wanted w WHERE w.sequence IS NOT NULL
    UNION ALL
    SELECT 4::smallint, w.ordinal, NULL, NULL, NULL, e.position, e.sequence, e.aggregate_type,
           e.event_type, e.event_version, e.recorded_at, e.payload, e.metadata
    FROM wanted w
    CROSS JOIN LATERAL (
        SELECT e.position, e.sequence, e.aggregate_type, e.event_type, e.event_version, e.recorded_at,
               e.payload, CASE WHEN with_metadata THEN e.metadata END AS metadata
        FROM events e
        WHERE e.partition = w.partition AND e.aggregate_id = w.id AND e.sequence > w.after
        ORDER BY e.sequence LIMIT page
    ) e;
END
$$;

-- The events of a partition after a position, in order.
CREATE FUNCTION log_tail(from_partition smallint, after bigint, page integer) RETURNS SETOF events
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT * FROM events e WHERE e.partition = from_partition AND e.position > after
    ORDER BY e.position LIMIT page;
END
$$;

-- The events of a stream after a version, in order.
CREATE FUNCTION log_stream(from_partition smallint, stream uuid, after bigint, page integer)
RETURNS SETOF events
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
BEGIN
    RETURN QUERY
    SELECT * FROM events e
    WHERE e.partition = from_partition AND e.aggregate_id = stream AND e.sequence > after
    ORDER BY e.sequence LIMIT page;
END
$$;
