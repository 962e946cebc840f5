-- Lists are sorted by names without accents, as read-models/src/providers.rs has it from now on.
UPDATE providers
SET sort_name = left(regexp_replace(normalize(sort_name, NFD), '[\u0300-\u036f]', '', 'g'), 255)
WHERE sort_name IS NOT NULL;
