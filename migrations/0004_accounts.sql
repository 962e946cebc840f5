-- Accounts grow, and sessions can be listed. Both are fed by the projector of the read tables and can be dropped and
-- rebuilt from the log; names are unqualified for that reason. Rows of before had none of these events.

ALTER TABLE accounts
    -- active, deactivated or erased
    ADD COLUMN status        text NOT NULL DEFAULT 'active',
    -- The credential generation: sessions that began under an older one are over.
    ADD COLUMN generation    bigint NOT NULL DEFAULT 0,
    -- The IANA zone they live in.
    ADD COLUMN zone          text,
    -- The address that waits to be confirmed; NULL once the person was erased.
    ADD COLUMN pending_email text,
    ADD COLUMN photo_id      uuid;
-- For administrators: the newest first.
CREATE INDEX accounts_newest_first ON accounts (created_at DESC, id DESC);

CREATE TABLE sessions (
    id         uuid PRIMARY KEY,
    partition  integer NOT NULL,
    position   bigint NOT NULL,
    version    bigint NOT NULL,
    account_id uuid NOT NULL,
    -- The account's credential generation when it began.
    generation bigint NOT NULL,
    -- When it ends at the latest.
    expires_at timestamptz NOT NULL,
    ended_at   timestamptz,
    end_reason text,
    -- NULL once the person was erased.
    ip         text,
    user_agent text,
    -- When it began.
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX sessions_by_account ON sessions (account_id, created_at DESC, id DESC);
