-- Read tables and the notification feed of the single-node profile. All of it can be dropped and rebuilt
-- from the log.
--
-- Every row of a read table carries the position of the last event that changed it; a write replaces a row
-- only with a later one, so that an event seen twice counts once. Names are unqualified on purpose: a
-- rebuild fills the same tables in another schema and swaps them.

CREATE TABLE accounts (
    id              uuid PRIMARY KEY,
    partition       integer NOT NULL,
    position        bigint NOT NULL,
    version         bigint NOT NULL,
    -- NULL once the person was erased.
    name            text,
    email           text,
    phone           text,
    locale          text NOT NULL,
    roles           text[] NOT NULL,
    email_confirmed boolean NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL
);

CREATE TABLE providers (
    id                   uuid PRIMARY KEY,
    partition            integer NOT NULL,
    position             bigint NOT NULL,
    version              bigint NOT NULL,
    account_id           uuid NOT NULL,
    slug                 text COLLATE "C" NOT NULL,
    business_name        text,
    -- The business name in lower case; "C" so that Rust and Postgres agree on the order of lists.
    sort_name            text COLLATE "C",
    zone                 text NOT NULL,
    hourly_rate_minor    bigint,
    hourly_rate_currency text,
    is_open              boolean NOT NULL,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL
);
-- Not unique: the log's claims are; a slug that changed hands may reach this table in either order.
CREATE INDEX providers_by_slug ON providers (slug);
CREATE INDEX providers_by_account ON providers (account_id);
CREATE INDEX providers_listed ON providers (sort_name, id) WHERE is_open AND sort_name IS NOT NULL;
CREATE INDEX providers_listed_by_partition ON providers (partition, sort_name, id)
    WHERE is_open AND sort_name IS NOT NULL;

CREATE TABLE services (
    id                    uuid PRIMARY KEY,
    partition             integer NOT NULL,
    position              bigint NOT NULL,
    version               bigint NOT NULL,
    provider_id           uuid NOT NULL,
    name                  text NOT NULL,
    description           text,
    duration_minutes      integer NOT NULL,
    interval_minutes      integer NOT NULL,
    buffer_before_minutes integer NOT NULL,
    buffer_after_minutes  integer NOT NULL,
    capacity              integer NOT NULL,
    price_minor           bigint,
    price_currency        text,
    -- A tombstone: a removed service keeps its row, so that an older write cannot bring it back.
    removed               boolean NOT NULL,
    created_at            timestamptz NOT NULL,
    updated_at            timestamptz NOT NULL
);
CREATE INDEX services_by_provider ON services (provider_id, created_at, id) WHERE NOT removed;

CREATE TABLE appointments (
    id                  uuid PRIMARY KEY,
    partition           integer NOT NULL,
    position            bigint NOT NULL,
    version             bigint NOT NULL,
    provider_id         uuid NOT NULL,
    provider_account_id uuid NOT NULL,
    client_id           uuid NOT NULL,
    service_id          uuid NOT NULL,
    service_name        text NOT NULL,
    starts_at           timestamptz NOT NULL,
    ends_at             timestamptz NOT NULL,
    zone                text NOT NULL,
    -- starts_at in that zone, so that people who query the table read local times.
    local_start         timestamp NOT NULL,
    status              text NOT NULL,
    price_minor         bigint,
    price_currency      text,
    -- NULL once the client was erased.
    contact_name        text,
    contact_email       text,
    contact_phone       text,
    client_notes        text,
    status_reason       text,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL
) WITH (fillfactor = 90);
-- S3-17
CREATE INDEX appointments_by_provider ON appointments (provider_id, starts_at, id);
CREATE INDEX appointments_by_client ON appointments (client_id, starts_at, id);
CREATE INDEX appointments_by_status ON appointments (status, starts_at);

-- The notification feed where there is no MongoDB. A row may begin as a mere mark: `read_at` without content,
-- when an account's own partition is ahead of the one the notification comes from.
CREATE TABLE notifications (
    recipient_id    uuid NOT NULL,
    partition       integer NOT NULL,
    number          bigint NOT NULL,
    kind            text,
    appointment_id  uuid,
    provider_id     uuid,
    other_id        uuid,
    other_name      text,
    service_name    text,
    starts_at       timestamptz,
    old_starts_at   timestamptz,
    zone            text,
    recorded_at     timestamptz,
    read_at         timestamptz,
    PRIMARY KEY (recipient_id, partition, number)
) WITH (fillfactor = 90);
CREATE INDEX notifications_newest_first
    ON notifications (recipient_id, recorded_at DESC, partition DESC, number DESC)
    WHERE kind IS NOT NULL;
CREATE INDEX notifications_unread
    ON notifications (recipient_id, recorded_at DESC, partition DESC, number DESC)
    WHERE kind IS NOT NULL AND read_at IS NULL;
CREATE INDEX notifications_by_other ON notifications (other_id) WHERE other_name IS NOT NULL;

-- What an account marked as a whole.
CREATE TABLE notification_feeds (
    recipient_id   uuid PRIMARY KEY,
    all_read_until timestamptz NOT NULL
);

-- How far the feed has applied each partition; in the feed's own store, as with MongoDB.
CREATE TABLE notification_checkpoints (
    partition integer PRIMARY KEY,
    position  bigint NOT NULL
) WITH (fillfactor = 50);
