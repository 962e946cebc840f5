-- Who waits for a slot of a provider (domain/src/waitlist.rs), and what became of it. Ids only.
CREATE TABLE waits (
    -- The place in line.
    id           uuid PRIMARY KEY,
    partition    integer NOT NULL,
    position     bigint NOT NULL,
    version      bigint NOT NULL,
    provider_id  uuid NOT NULL,
    account_id   uuid NOT NULL,
    service_id   uuid NOT NULL,
    from_at      timestamptz NOT NULL,
    to_at        timestamptz NOT NULL,
    -- 'waiting', 'offered', or how it ended.
    status       text NOT NULL,
    -- The number of the event that began it: the order of the line.
    joined       bigint NOT NULL,
    -- What is or was offered.
    hold_id      uuid,
    offer_start  timestamptz,
    offer_end    timestamptz,
    offered_until timestamptz,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL
);
CREATE INDEX waits_of_accounts ON waits (account_id, created_at DESC, id DESC);
CREATE INDEX waits_in_line ON waits (provider_id, service_id, joined) WHERE status IN ('waiting', 'offered');

-- An offer's notification names the hold that keeps the slot, and no appointment.
ALTER TABLE notifications ADD COLUMN hold_id uuid;
