-- The weekly windows a service has of its own, as JSON; NULL: those of the shop alone.
ALTER TABLE services ADD COLUMN weekly text;
