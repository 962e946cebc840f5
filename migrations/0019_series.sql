-- Which of which series an appointment is (domain/src/series.rs); NULL where it is none.
ALTER TABLE appointments ADD COLUMN series_id uuid;
ALTER TABLE appointments ADD COLUMN series_number smallint;
-- Single appointments are not in it: a booking writes no index more.
CREATE INDEX appointments_of_series ON appointments (series_id, series_number) WHERE series_id IS NOT NULL;
