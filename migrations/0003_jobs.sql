-- Durable jobs (K26): inserted in the transaction that moves a reactor's checkpoint, taken with
-- FOR UPDATE SKIP LOCKED, deleted when done, kept with `dead_at` when given up. Payloads carry ids only.
CREATE TABLE jobs (
    id           uuid        PRIMARY KEY,          -- derived from the reactor and the event, so twice equals once
    kind         text        NOT NULL,
    payload      json        NOT NULL,
    priority     smallint    NOT NULL CHECK (priority BETWEEN 1 AND 3),
    run_at       timestamptz NOT NULL,
    attempts     integer     NOT NULL DEFAULT 0,
    max_attempts integer     NOT NULL,
    locked_until timestamptz,
    last_error   text,
    dead_at      timestamptz,
    created_at   timestamptz NOT NULL
);

CREATE INDEX jobs_due ON jobs (priority, run_at) WHERE dead_at IS NULL;

-- What was done, so that an event that is seen again does not order it again. Purged after 30 days.
CREATE TABLE jobs_done (
    id      uuid        PRIMARY KEY,
    done_at timestamptz NOT NULL
);
CREATE INDEX jobs_done_age ON jobs_done (done_at);
