#!/bin/sh
# Runs `upgrade` of the benchmarks: an older program and this one side by side on five million orders.
#
#   scripts/upgrade.sh                                      from the program of schema 24, which is built first, once: some minutes
#   UPGRADE_FROM=path/to/older/waybill scripts/upgrade.sh   from that program
#
# The program that is built stays in target/upgrade, and nothing else of it does.
set -eu
cargo=${CARGO:-cargo}
# The last commit before migration 0025 came. Its program has schema 24, the oldest that is upgraded without an outage (docs/runbook.md): so all
# migrations since then run beside its servers. A hash, since a commit is never another one.
older=30328ac5bbc303e3a8550a207fb5c432e007f60e

if [ -n "${UPGRADE_FROM:-}" ]; then
    # The benchmark has another working directory.
    from=$(realpath "$UPGRADE_FROM")
    cd "$(dirname "$0")/.."
else
    cd "$(dirname "$0")/.."
    mkdir -p "${CARGO_TARGET_DIR:-target}/upgrade"
    scratch=$(realpath "${CARGO_TARGET_DIR:-target}/upgrade")
    from=$scratch/waybill-$older
fi

if [ -z "${UPGRADE_FROM:-}" ] && [ ! -x "$from" ]; then
    git cat-file -e "$older^{commit}" 2>/dev/null || {
        echo "upgrade: commit $older is not here, as in a clone without its history:" \
            "git fetch --unshallow, or name an older program by UPGRADE_FROM" >&2
        exit 1
    }
    echo "upgrade: building the program of schema 24 (commit $older), once"
    tree=$scratch/tree
    remove_tree() {
        git worktree remove --force "$tree" 2>/dev/null || rm -rf "$tree"
    }
    # What an interrupted run left.
    remove_tree
    trap remove_tree EXIT
    trap 'exit 1' INT TERM HUP
    git worktree add --force --quiet --detach "$tree" "$older"
    (cd "$tree" && CARGO_TARGET_DIR=$scratch/build $cargo build --release --locked --quiet --package waybill)
    # Under its name only once it is whole.
    cp "$scratch/build/release/waybill" "$from.new"
    mv "$from.new" "$from"
    rm -rf "$scratch/build"
    # `exec` runs no trap.
    trap - EXIT
    remove_tree
fi

export UPGRADE_FROM="$from" BENCH_ONLY=upgrade
exec $cargo bench --quiet --package waybill-tests --bench benchmarks
