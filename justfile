# Short names for what one does often. `just` lists them.

_default:
    @just --list --unsorted

# Format, lints, build, OpenAPI drift and every test against real servers; with arguments, only those tests
test *args:
    scripts/test.sh {{args}}

# The single-node profile with demo data, at http://127.0.0.1:8080
run *args:
    scripts/run.sh {{args}}

# append, book, slots or month
bench name *args:
    scripts/bench.sh {{name}} {{args}}

# Format, and what clippy says
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# Write docs/openapi.json as the program serves it
openapi:
    cargo run --quiet -p app -- openapi > docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json

# Licences, advisories, bans (cargo install cargo-deny)
deny:
    cargo deny --all-features check

# Write the golden file of every event version that has none yet
golden:
    GOLDEN=write scripts/test.sh -p event-log golden
