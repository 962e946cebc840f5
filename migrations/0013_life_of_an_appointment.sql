-- What each side of an appointment noted for itself alone. Beside `appointments`, so that lists and caches that both sides'
-- data goes through never hold it, and a booking writes no column more.
CREATE TABLE appointment_notes (
    -- The appointment.
    id                  uuid PRIMARY KEY,
    partition           integer NOT NULL,
    position            bigint NOT NULL,
    version             bigint NOT NULL,
    provider_account_id uuid NOT NULL,
    -- Whoever booked.
    client_id           uuid NOT NULL,
    -- NULL where there are none, and once their author was erased.
    client_notes        text,
    provider_notes      text,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL
);
CREATE INDEX appointment_notes_of_clients ON appointment_notes (client_id) WHERE client_notes IS NOT NULL;
CREATE INDEX appointment_notes_of_providers ON appointment_notes (provider_account_id)
    WHERE provider_notes IS NOT NULL;

-- A guest has no account (K18): then client_id is NULL. One of the two is there.
ALTER TABLE appointments ALTER COLUMN client_id DROP NOT NULL;
ALTER TABLE appointments ADD COLUMN guest_id uuid;

-- When a pending one expires unanswered; NULL is at its start. The worker looks through the index for those whose time is over.
ALTER TABLE appointments ADD COLUMN answer_by timestamptz;
CREATE INDEX appointments_unanswered ON appointments (coalesce(answer_by, starts_at), id) WHERE status = 'pending';
