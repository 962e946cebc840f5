-- These settings are now those of the log's own connections: as the functions' own they were set and taken back at every
-- call, some 20 µs each time.
ALTER FUNCTION log_append RESET ALL;
ALTER FUNCTION log_read RESET ALL;
