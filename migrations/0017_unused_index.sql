-- Every list of appointments is of a provider or of a client; what is unanswered has its own index.
DROP INDEX appointments_by_status;
