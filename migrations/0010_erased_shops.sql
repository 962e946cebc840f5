-- What a shop said goes with its owner: once they were erased there is no name, of the shop in URLs, of its services, or
-- of what others booked there.
ALTER TABLE providers ALTER COLUMN slug DROP NOT NULL;
ALTER TABLE services ALTER COLUMN name DROP NOT NULL;
ALTER TABLE appointments ALTER COLUMN service_name DROP NOT NULL;
