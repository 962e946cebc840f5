# shellcheck shell=bash disable=SC2034,SC2015
# Shared by test.sh, run.sh and bench.sh (sourced, never run): steps with their durations, missing packages, private
# servers on free loopback ports.
#
# A run of test.sh, for example: `begin_run tests` makes target/servers/tests.4711.x9/, `start_postgres` puts a cluster and
# its log there, records the server's pid in it, and sets POSTGRES_URL; `end_run`, on the EXIT trap, stops what is recorded
# and removes the folder. Two runs at once have two folders and other ports, and never meet.
# If the script itself is killed with -9, its servers stay; the next run finds the folder of a dead owner and stops them.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
[[ $TARGET = /* ]] || TARGET=$ROOT/$TARGET
RUN=            # this run's folder: logs, pids
FALLBACK=       # the same for data, where the Postgres user cannot enter the first
# Servers out of PyPI: MongoDB's protocol, S3's, SMTP. The last two the tests start themselves.
PYTHON_PACKAGES=(SecantusDB==0.7.0b3 'moto[server]==5.2.5' aiosmtpd==1.4.6)

# --- telling ---------------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$*"; }
die() { printf '\n✗ %s\n' "$*" >&2; exit 1; }

# job COMMAND…: runs it in a process group of its own, so that stopping this script stops it whole (a build's compilers, a
# test runner's tests), and a Ctrl-C reaches the servers only after it.
JOB=
job() {
  local code=0
  set -m; "$@" </dev/null & JOB=$!; set +m
  wait "$JOB" || code=$?
  JOB=
  return "$code"
}

# step NAME COMMAND…: a job whose output is shown only when it fails.
step() {
  local name=$1 log started=$SECONDS code=0 beat; shift
  log=$RUN/$(tr -c 'a-zA-Z0-9\n' - <<<"$name").log
  # A long build says that it is alive: every half minute, the last thing it did.
  (while sleep 30; do printf '    … %s: %s\n' "$name" "$(tail -n1 "$log" | tr -s ' ' | cut -c1-100)"; done) & beat=$!
  job "$@" >"$log" 2>&1 || code=$?
  kill "$beat" 2>/dev/null; wait "$beat" 2>/dev/null || true
  if ((code)); then
    printf '✗ %-30s %4ss\n\n' "$name" $((SECONDS - started))
    tail -n 200 "$log"
    return "$code"
  fi
  printf '✓ %-30s %4ss\n' "$name" $((SECONDS - started))
}

# --- what must be installed ------------------------------------------------------------------------------------------

# Where the newest Postgres of at least 15 keeps its programs: PATH, then Debian's folders.
postgres_bin() {
  local candidate real version best='' best_version=14
  for candidate in "$(command -v initdb || true)" /usr/lib/postgresql/*/bin/initdb; do
    [[ -x $candidate ]] || continue
    real=$(dirname "$(readlink -f "$candidate")")
    [[ -x $real/postgres && -x $real/pg_ctl ]] || continue
    version=$("$real/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
    if ((version > best_version)); then best=$real best_version=$version; fi
  done
  [[ $best ]] && printf '%s\n' "$best"
}

# install PACKAGE…: with apt-get, as root; otherwise says what is missing. Services of the packages are not started.
install() {
  (($# == 0)) && return
  command -v apt-get >/dev/null || die "missing: $*. Install the like with this system's package manager, then try again."
  ((EUID == 0)) || die "missing: $*. Run once:  sudo apt-get install -y --no-install-recommends $*"
  step "install $*" install_packages "$@"
}

install_packages() (
  export DEBIAN_FRONTEND=noninteractive
  # Nobody asked for a Postgres on 5432 or a Redis on 6379: the packages are wanted for their programs.
  if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
  fi
  apt-get -o DPkg::Lock::Timeout=600 -qq update &&
    apt-get -o DPkg::Lock::Timeout=600 -y -qq --no-install-recommends install "$@"
)

need_rust() {
  command -v cargo >/dev/null || die "cargo is missing: install Rust from https://rustup.rs, then try again."
  command -v cc >/dev/null || install gcc libc6-dev
}

# --- a run and its end -----------------------------------------------------------------------------------------------

begin_run() {
  mkdir -p "$TARGET/servers"
  sweep
  RUN=$(mktemp -d "$TARGET/servers/$1.$$.XXXXXX")
  chmod 711 "$RUN"
  echo $$ >"$RUN/owner"
  trap end_run EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

end_run() {
  local code=$?
  trap '' INT TERM HUP
  trap - EXIT
  if [[ $JOB ]]; then kill -TERM -- "-$JOB" 2>/dev/null && wait "$JOB" 2>/dev/null || true; fi
  stop_servers "$RUN"
  if ((code)) && [[ $KEEP_LOGS_OF_FAILURES ]]; then
    mkdir -p "$TARGET/servers/last-failure" && cp "$RUN"/*.log "$TARGET/servers/last-failure/" 2>/dev/null || true
  fi
  rm -rf "$RUN" ${FALLBACK:+"$FALLBACK"}
  exit "$code"
}
KEEP_LOGS_OF_FAILURES=yes

# For a script that goes on as another program and has started no server.
end_run_quietly() {
  trap - EXIT INT TERM HUP
  rm -rf "$RUN"
}

# record NAME PID: a server that this run started, to be stopped at its end. The start time tells it from a later
# process with the same number.
record() { printf '%s %s %s\n' "$1" "$2" "$(started_at "$2")" >>"$RUN/pids"; }
started_at() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

stop_servers() {
  local run=$1 name pid started deadline=$((SECONDS + 20))
  [[ -e $run/pids ]] || return 0
  while read -r name pid started; do
    [[ $name == docker || $started ]] || continue
    case $name in
      docker) docker stop -t 5 "$pid" >/dev/null 2>&1 || true ;;
      # SIGINT is Postgres's fast stop: it does not wait for clients.
      postgres) [[ $(started_at "$pid") == "$started" ]] && kill -INT "$pid" 2>/dev/null || true ;;
      *) [[ $(started_at "$pid") == "$started" ]] && kill -TERM "$pid" 2>/dev/null || true ;;
    esac
  done <"$run/pids"
  while read -r name pid started; do
    [[ $name == docker || ! $started ]] && continue
    while [[ $(started_at "$pid") == "$started" ]]; do
      if ((SECONDS > deadline)); then kill -KILL "$pid" 2>/dev/null || true; fi
      sleep 0.05
    done
  done <"$run/pids"
}

# Folders whose owner died without its trap: stop what they recorded, remove them.
sweep() {
  local folder owner
  for folder in "$TARGET"/servers/*.*.*/; do
    [[ -e $folder/owner ]] || continue
    owner=$(<"$folder/owner")
    [[ -d /proc/$owner ]] && continue
    say "  (stopping what a killed run left: ${folder%/})"
    stop_servers "${folder%/}"
    [[ -e $folder/fallback ]] && rm -rf -- "$(<"$folder/fallback")"
    rm -rf -- "$folder"
  done
}

# --- servers ---------------------------------------------------------------------------------------------------------

# A port nobody listens on, out of a range that no system hands out by itself. Starting retries, should two meet on one.
free_port() {
  local port
  for _ in {1..100}; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 10000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { printf '%s\n' "$port"; return; }
  done
  die "no free port between 20000 and 30000"
}

# until_ready SECONDS PID COMMAND…: polls the command while the process lives.
until_ready() {
  local deadline=$((SECONDS + $1)) pid=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    [[ -d /proc/$pid ]] || return 1
    ((SECONDS < deadline)) || return 1
    sleep 0.05
  done
}

# background LOG COMMAND…: starts a server, out of reach of the terminal's Ctrl-C; sets SERVER to its pid.
background() {
  local log=$1; shift
  set -m; "$@" >>"$log" 2>&1 </dev/null & SERVER=$!; set +m
}

# start_postgres MODE: `tests` (a power cut may lose all, nothing waits for the disk) or `production` (fsync on, and the
# tuning of the single-node profile). Sets POSTGRES_URL and POSTGRES_BIN.
start_postgres() {
  local mode=$1 folder=$RUN port user as=() settings=()
  POSTGRES_BIN=$(postgres_bin) || die "no Postgres of at least 15 was found"
  # Postgres refuses to run as root, so root borrows a user.
  if ((EUID == 0)); then
    user=postgres
    if ! id -u postgres >/dev/null 2>&1; then
      user=pontual-test
      id -u $user >/dev/null 2>&1 || useradd --system --no-create-home --user-group $user
    fi
    as=(setpriv "--reuid=$user" "--regid=$user" --clear-groups --)
    # Below /root, say, that user cannot go.
    if ! "${as[@]}" test -x "$RUN"; then
      FALLBACK=$(mktemp -d /var/tmp/pontual.XXXXXX)
      chmod 711 "$FALLBACK"
      echo "$FALLBACK" >"$RUN/fallback"
      folder=$FALLBACK
    fi
  fi
  mkdir -m 700 "$folder/postgres"
  if ((EUID == 0)); then chown $user:$user "$folder/postgres"; fi
  (cd "$folder/postgres" && "${as[@]}" "$POSTGRES_BIN/initdb" -D "$folder/postgres/data" -U postgres --auth=trust \
    --encoding=UTF8 --locale=C.UTF-8 --no-sync) >"$RUN/initdb.log" 2>&1 || { cat "$RUN/initdb.log"; die "initdb failed"; }
  case $mode in
    tests) settings=(fsync=off full_page_writes=off max_connections=500 shared_buffers=256MB max_wal_size=4GB) ;;
    production)
      settings=(fsync=on max_connections=200 shared_buffers=256MB effective_cache_size=1GB maintenance_work_mem=64MB
        checkpoint_completion_target=0.9 wal_buffers=16MB default_statistics_target=100 random_page_cost=1.1
        max_wal_size=2GB)
      ;;
  esac
  for _ in {1..5}; do
    port=$(free_port)
    background "$RUN/postgres.log" env -C "$folder/postgres" LC_ALL=C.UTF-8 "${as[@]}" "$POSTGRES_BIN/postgres" \
      -D "$folder/postgres/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= "${settings[@]/#/--}"
    record postgres "$SERVER"
    if until_ready 60 "$SERVER" "$POSTGRES_BIN/pg_isready" -q -h 127.0.0.1 -p "$port" -U postgres; then
      POSTGRES_URL=postgres://postgres@127.0.0.1:$port/postgres
      return
    fi
  done
  cat "$RUN/postgres.log"; die "Postgres did not start"
}

# Sets REDIS_SERVER_URL.
start_redis() {
  local port
  mkdir "$RUN/redis"
  for _ in {1..5}; do
    port=$(free_port)
    background "$RUN/redis.log" redis-server --port "$port" --bind 127.0.0.1 --dir "$RUN/redis" --save '' \
      --appendonly no --daemonize no
    record redis "$SERVER"
    if until_ready 20 "$SERVER" grep -q 'Ready to accept connections' "$RUN/redis.log"; then
      REDIS_SERVER_URL=redis://127.0.0.1:$port
      return
    fi
    : >"$RUN/redis.log"
  done
  cat "$RUN/redis.log"; die "Redis did not start"
}

docker_runs() { command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1; }

# Which MongoDB there is to be had: url, mongod, docker or secantus.
mongo_kind() {
  if [[ ${MONGODB_URL:-} ]]; then echo url
  elif command -v mongod >/dev/null; then echo mongod
  elif docker_runs; then echo docker
  else echo secantus; fi
}

# A virtual environment with these packages, kept between runs while they stay the same. Its Python is TEST_VENV_PYTHON.
python_environment() {
  local venv=$TARGET/test-venv mark
  mark=$venv/packages-$(printf '%s\n' "${PYTHON_PACKAGES[@]}" | sha256sum | cut -c1-16)
  exec 9>"$TARGET/test-venv.lock"; flock 9
  if [[ ! -e $mark ]]; then
    rm -rf "$venv"
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check "${PYTHON_PACKAGES[@]}" &&
      touch "$mark"
  fi
}
TEST_VENV_PYTHON=$TARGET/test-venv/bin/python

# start_mongo KIND: sets MONGO_SERVER_URL.
start_mongo() {
  local port id
  case $1 in
    url) MONGO_SERVER_URL=$MONGODB_URL; return ;;
    docker)
      id=$(docker run -d --rm -p 127.0.0.1::27017 mongo:7) || die "docker could not start mongo:7"
      record docker "$id"
      port=$(docker port "$id" 27017/tcp | head -n1 | sed 's/.*://')
      until_ready 60 $$ docker exec "$id" mongosh --quiet --eval 1 || { docker logs "$id" | tail -n 20; die "MongoDB did not start"; }
      MONGO_SERVER_URL=mongodb://127.0.0.1:$port
      return
      ;;
    mongod) ;;
    secantus) ;;
  esac
  for _ in {1..5}; do
    port=$(free_port)
    rm -rf "$RUN/mongo"; mkdir "$RUN/mongo"
    if [[ $1 == mongod ]]; then
      background "$RUN/mongo.log" mongod --port "$port" --bind_ip 127.0.0.1 --dbpath "$RUN/mongo"
    else
      background "$RUN/mongo.log" "$TARGET/test-venv/bin/secantusd-py" --host 127.0.0.1 --port "$port" \
        --storage-path "$RUN/mongo" --standalone
    fi
    record mongo "$SERVER"
    if until_ready 60 "$SERVER" listens "$port"; then
      MONGO_SERVER_URL=mongodb://127.0.0.1:$port
      return
    fi
  done
  cat "$RUN/mongo.log"; die "the MongoDB server did not start"
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
