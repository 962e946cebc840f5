-- People who were erased, and how far that is. The log forgot them in the append of AccountErased; what was made of the
-- log is purged by a job (PurgeAccount), step by step. Like jobs, this is no read model.
CREATE TABLE erasures (
    account_id   uuid        PRIMARY KEY,
    erased_at    timestamptz NOT NULL,
    stage        text        NOT NULL,
    -- What every projector must have passed before the next step, as a position token.
    heads        text,
    completed_at timestamptz
);
CREATE INDEX erasures_open ON erasures (erased_at) WHERE completed_at IS NULL;

-- Who wrote status_reason, so that it goes with its author and not with the other side.
ALTER TABLE appointments ADD COLUMN reason_by uuid;
