-- The catalogue: what shops say of themselves, categories, the order of services, and what providers are searched by.

ALTER TABLE providers
    ADD COLUMN former_slugs    text[] COLLATE "C" NOT NULL DEFAULT '{}',
    ADD COLUMN description     text,
    ADD COLUMN address         text,
    ADD COLUMN city            text,
    ADD COLUMN state           text,
    ADD COLUMN postal_code     text,
    -- Ten-millionths of a degree.
    ADD COLUMN latitude_e7     integer,
    ADD COLUMN longitude_e7    integer,
    ADD COLUMN phone           text,
    ADD COLUMN website         text,
    ADD COLUMN instagram       text,
    ADD COLUMN facebook        text,
    ADD COLUMN specializations text[] NOT NULL DEFAULT '{}',
    ADD COLUMN is_verified     boolean NOT NULL DEFAULT false,
    ADD COLUMN plan            text NOT NULL DEFAULT 'free',
    -- The city without accents, in lower case.
    ADD COLUMN city_key        text COLLATE "C",
    -- The words of name, description, specializations and city, without accents, in lower case
    -- (read-models/src/provider_search.rs makes them).
    ADD COLUMN search_words    tsvector;

UPDATE providers
SET search_words = array_to_tsvector(
    array_remove(regexp_split_to_array(sort_name, '[^[:alnum:]]+'), ''))
WHERE sort_name IS NOT NULL;

CREATE INDEX providers_by_former_slug ON providers USING gin (former_slugs)
    WHERE former_slugs <> '{}';
CREATE INDEX providers_by_words ON providers USING gin (search_words) WHERE is_open;
CREATE INDEX providers_by_city ON providers (city_key, sort_name, id) WHERE is_open;
CREATE INDEX providers_by_place ON providers (latitude_e7, longitude_e7) WHERE is_open;
-- Lists are no longer put together from partitions.
DROP INDEX providers_listed_by_partition;

ALTER TABLE services
    ADD COLUMN category_id uuid,
    ADD COLUMN is_active   boolean NOT NULL DEFAULT true,
    ADD COLUMN sort_order  integer NOT NULL DEFAULT 0;
CREATE INDEX services_by_category ON services (category_id, provider_id)
    WHERE is_active AND NOT removed;

CREATE TABLE categories (
    id          uuid PRIMARY KEY,
    partition   integer NOT NULL,
    position    bigint NOT NULL,
    version     bigint NOT NULL,
    name        text NOT NULL,
    -- The name without accents, in lower case.
    sort_name   text COLLATE "C" NOT NULL,
    slug        text COLLATE "C" NOT NULL,
    description text,
    icon        text,
    color       text,
    is_active   boolean NOT NULL,
    sort_order  integer NOT NULL,
    -- A tombstone: an older write cannot bring it back.
    removed     boolean NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE INDEX categories_listed ON categories (sort_order, sort_name, id) WHERE NOT removed;
-- Not unique: the log's claims are.
CREATE INDEX categories_by_slug ON categories (slug) WHERE NOT removed;
