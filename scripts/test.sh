#!/usr/bin/env bash
# Everything that must hold: format, lints, build, the OpenAPI file, and all tests against real servers.
#
#   scripts/test.sh                        all of it
#   scripts/test.sh -p domain some_filter  only these tests, same servers
#
# On a bare Debian 12 with Rust it installs, as root, what is missing: Postgres, Redis, Python. Its servers are private, on
# free loopback ports, and stopped at the end. MongoDB is $MONGODB_URL, else `mongod`, else Docker's mongo:7, else SecantusDB.
# A server whose TEST_DATABASE_URL, TEST_REDIS_URL or TEST_MONGODB_URL is already set is used and not started. TEST_PYTHON is a
# Python with moto[server] and aiosmtpd, in which the tests start an S3 and an SMTP server of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

begin_run tests
need_rust

mongo=secantus packages=()
[[ ${TEST_MONGODB_URL:-} ]] && mongo=given || mongo=$(mongo_kind)
[[ ${TEST_DATABASE_URL:-} ]] || postgres_bin >/dev/null || packages+=(postgresql)
[[ ${TEST_REDIS_URL:-} ]] || command -v redis-server >/dev/null || packages+=(redis-server)
# The tests' own servers (S3's protocol, SMTP) are Python's, out of a virtual environment.
if [[ ! ${TEST_PYTHON:-} ]] && ! python3 -c 'import venv, ensurepip' 2>/dev/null; then packages+=(python3 python3-venv); fi
install ${packages[@]+"${packages[@]}"}
if [[ $mongo == secantus || ! ${TEST_PYTHON:-} ]]; then step "servers out of PyPI" python_environment; fi
export TEST_PYTHON=${TEST_PYTHON:-$TEST_VENV_PYTHON}

[[ ${TEST_DATABASE_URL:-} ]] || { start_postgres tests; export TEST_DATABASE_URL=$POSTGRES_URL; }
[[ ${TEST_REDIS_URL:-} ]] || { start_redis; export TEST_REDIS_URL=$REDIS_SERVER_URL; }
[[ ${TEST_MONGODB_URL:-} ]] || { start_mongo "$mongo"; export TEST_MONGODB_URL=$MONGO_SERVER_URL; }
# The tests configure Pontual themselves; what this shell has set for a real one must not leak into them.
unset DATABASE_URL REDIS_URL MONGODB_URL "${!PONTUAL_@}"
say "  Postgres $TEST_DATABASE_URL, Redis $TEST_REDIS_URL, MongoDB ($mongo) $TEST_MONGODB_URL"

same_openapi() {
  "$TARGET/debug/pontual" openapi | diff -u docs/openapi.json - ||
    { say "docs/openapi.json is not what the program serves: run  just openapi  and commit it"; return 1; }
}

if (($# == 0)); then
  step "format" cargo fmt --all --check
  step "lints" cargo clippy --workspace --all-targets -- -D warnings
  step "build" cargo build --workspace
  if [[ -e docs/openapi.json ]]; then step "openapi.json is current" same_openapi; fi
  set -- --workspace
elif [[ " $* " == *" end-to-end "* ]]; then
  # Those tests drive the program, which is not theirs to build.
  step "build" cargo build -p app
fi

# The closing lines of whichever runner there is, for the end of the output.
closing_lines() {
  if [[ $runner == nextest ]]; then
    grep -E '^ *Summary \[' "$RUN/tests.log" | tail -n 1
  else
    grep -E '^test result: ' "$RUN/tests.log" |
      awk '{ passed += $4; failed += $6; ignored += $8 } END { printf "test result: %d passed; %d failed; %d ignored; %d binaries\n", passed, failed, ignored, NR }'
  fi
}

tests() {
  local code=0
  if [[ $runner == nextest ]]; then
    NEXTEST_STATUS_LEVEL=${NEXTEST_STATUS_LEVEL:-slow} cargo nextest run --no-fail-fast "$@" 2>&1 || code=$?
  else
    cargo test --no-fail-fast "$@" 2>&1 || code=$?
  fi
  echo "$code" >"$RUN/tests.code"
}
shown_tests() { tests "$@" | tee "$RUN/tests.log"; }

if cargo nextest --version >/dev/null 2>&1; then runner=nextest; else runner=test; fi
started=$SECONDS code=0
job shown_tests "$@" || code=$?
((code)) || code=$(<"$RUN/tests.code")
# nextest leaves out the examples in the documentation.
if ((code == 0)) && [[ $runner == nextest && $* == --workspace ]]; then
  step "documentation examples" cargo test --workspace --doc || code=$?
fi

say
if ((code)); then
  printf '✗ %-30s %4ss\n' tests $((SECONDS - started))
  say "  Servers' logs: ${TARGET#"$ROOT/"}/servers/last-failure/"
else
  printf '✓ %-30s %4ss\n' tests $((SECONDS - started))
fi
closing_lines
exit "$code"
