#!/usr/bin/env bash
# A whole Pontual with demo data, from a bare machine with Rust: one program and the Postgres it keeps for itself in ./data.
#
#   scripts/run.sh                  http://127.0.0.1:8080
#   PONTUAL_LISTEN=127.0.0.1:9000 scripts/run.sh
#
# Arguments go to `pontual serve --demo`. With DATABASE_URL set, that Postgres is used and none is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

begin_run run
need_rust
if [[ ! ${DATABASE_URL:-} ]] && ! postgres_bin >/dev/null; then install postgresql; fi
say "Building (the first time, some minutes) …"
job cargo build --release -p app
end_run_quietly
exec "$TARGET/release/pontual" serve --demo "$@"
