-- The audit trail (S4-51): who did what, on what, from where, with what program, when, and whether it was done. Rows of
-- events come from the log and are named by their position, so that twice equals once; what was refused left no event, and
-- its row is named by a random id. `details` holds nothing personal; ip and user_agent do, and are emptied when their
-- person is erased.
CREATE TABLE audit_trail (
    id         text        PRIMARY KEY,          -- the event's position, as in 3:18, or a UUID
    at         timestamptz NOT NULL,
    account_id uuid,                             -- who did it, or whose account it was tried on
    actor      text        NOT NULL,             -- account:<id>, system:<name> or anonymous
    action     text        NOT NULL,             -- the command's name
    resource   text,                             -- account/<id>, session/<id>, or a route
    ip         text,
    user_agent text,
    success    boolean     NOT NULL,
    details    json        NOT NULL,
    -- Rows without an event are numbered, and only so many are kept: whoever is refused can be refused often.
    noted      bigint
);
CREATE INDEX audit_trail_latest ON audit_trail (at DESC, id COLLATE "C" DESC);
CREATE INDEX audit_trail_by_account ON audit_trail (account_id, at DESC, id COLLATE "C" DESC) WHERE account_id IS NOT NULL;
CREATE INDEX audit_trail_by_ip ON audit_trail (ip, at DESC, id COLLATE "C" DESC) WHERE ip IS NOT NULL;
CREATE INDEX audit_trail_by_action ON audit_trail (action, at DESC, id COLLATE "C" DESC);
CREATE INDEX audit_trail_refused ON audit_trail (at DESC, id COLLATE "C" DESC) WHERE NOT success;
CREATE INDEX audit_trail_noted ON audit_trail (noted) WHERE noted IS NOT NULL;

CREATE SEQUENCE audit_trail_noted_numbers;
