#!/bin/sh
# How many instructions the hottest pure paths take, against the committed counts. Where callgrind cannot count, it says so
# and why, and that is no failure.
#
#   scripts/count.sh            compare
#   scripts/count.sh --renew    write the counts of now: crates/server/benches/instructions.toml
set -eu
cd "$(dirname "$0")/.."

skip() {
    echo "count: SKIPPED, nothing was counted: $*"
    exit 0
}

[ "$(uname -s)" = Linux ] || skip "callgrind counts on Linux, and this is $(uname -s)"

# By package manager. As an ordinary user only where sudo asks no question.
if ! command -v valgrind >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then as_root=""; elif sudo -n true 2>/dev/null; then as_root="sudo"; else as_root="no"; fi
    if [ "$as_root" != no ]; then
        echo "count: installing valgrind by apt-get"
        export DEBIAN_FRONTEND=noninteractive
        $as_root apt-get update -qq || true
        $as_root apt-get install -y -qq --no-install-recommends valgrind >/dev/null || true
    fi
fi
command -v valgrind >/dev/null 2>&1 || skip "there is no valgrind here, and it could not be installed"
valgrind --quiet --tool=none true >/dev/null 2>&1 || skip "valgrind does not run here: try valgrind --tool=none true"

exec "${CARGO:-cargo}" --config scripts/count.toml bench --quiet --profile dev --workspace --bench instructions -- "$@"
