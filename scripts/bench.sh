#!/usr/bin/env bash
# How fast, each beside its limit in the same run: release build, a private Postgres set up as in production (fsync on).
#
#   scripts/bench.sh append     the log alone, beside pgbench's bare inserts
#   scripts/bench.sh book       bookings over HTTP, beside the same
#   scripts/bench.sh slots      free slots over HTTP from a warm cache, beside a bare handler with one Redis GET
#   scripts/bench.sh month      free days of a month from a warm cache at half of the saturating rate, beside the same;
#                               with a number, so many seconds per turn
#
# Further arguments go to the benchmark. It finds its servers in DATABASE_URL (a superuser's), REDIS_URL and MONGODB_URL
# (slots and month only), pgbench in PATH, and the program to measure in BENCH_PONTUAL.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

case ${1:-} in append | book | slots | month) ;; *) die "usage: scripts/bench.sh append|book|slots|month [argument…]" ;; esac
begin_run bench
need_rust

mongo='' packages=()
postgres_bin >/dev/null || packages+=(postgresql)
if [[ $1 == slots || $1 == month ]]; then
  command -v redis-server >/dev/null || packages+=(redis-server)
  mongo=$(mongo_kind)
  if [[ $mongo == secantus ]] && ! python3 -c 'import venv, ensurepip' 2>/dev/null; then packages+=(python3 python3-venv); fi
fi
install ${packages[@]+"${packages[@]}"}
step "build (release)" cargo build --release -p end-to-end --bin bench -p app --bin pontual
if [[ $mongo == secantus ]]; then step "a MongoDB-protocol server" python_environment; fi

unset DATABASE_URL REDIS_URL "${!PONTUAL_@}"
start_postgres production
export DATABASE_URL=$POSTGRES_URL PATH=$POSTGRES_BIN:$PATH BENCH_PONTUAL=$TARGET/release/pontual
if [[ $1 == slots || $1 == month ]]; then
  start_redis
  start_mongo "$mongo"
  export REDIS_URL=$REDIS_SERVER_URL MONGODB_URL=$MONGO_SERVER_URL
else
  unset MONGODB_URL
fi

say "  $(nproc) × $(grep -m1 'model name' /proc/cpuinfo | sed 's/.*: //'), Postgres $("$POSTGRES_BIN/postgres" --version | sed 's/^[^0-9]*//')"
job "$TARGET/release/bench" "$@"
