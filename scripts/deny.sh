#!/bin/sh
# Checks the dependencies with cargo-deny (deny.toml): licences, bans and sources always; known vulnerabilities where the
# RustSec database can be fetched or is on this machine already. Where it is not, prints that they were NOT checked, and why.
# Installs the pinned cargo-deny from crates.io into .waybill/tools, unoptimised: a minute and a half on
# two cores, once. With DENY_STRICT=1, whatever could not be checked is a failure.
set -eu
cd "$(dirname "$0")/.."
version=0.20.2
tools=$PWD/.waybill/tools/cargo-deny
cargo=${CARGO:-cargo}
database=https://github.com/rustsec/advisory-db

if [ "$("$tools/bin/cargo-deny" --version 2>/dev/null)" != "cargo-deny $version" ]; then
    echo "deny: building cargo-deny $version, once"
    "$cargo" install cargo-deny --version "$version" --locked --quiet --debug --root "$tools" --target-dir "$tools/build" || {
        echo "deny: cargo-deny $version could not be installed, so the dependencies were NOT checked"
        [ "${DENY_STRICT:-}" != 1 ]
        exit
    }
    rm -rf "$tools/build"
fi
deny() {
    "$tools/bin/cargo-deny" --log-level error --all-features "$@"
}

deny check licenses bans sources

# Asked first, so that a database that cannot be reached is not mistaken for a vulnerability.
if GIT_TERMINAL_PROMPT=0 git ls-remote --quiet --exit-code "$database" HEAD >/dev/null 2>&1; then
    deny check advisories
elif ls -d "${CARGO_HOME:-$HOME/.cargo}"/advisory-dbs/*/crates >/dev/null 2>&1; then
    deny --offline check --disable-fetch advisories
    echo "deny: the advisories are those of the copy on this machine, which may be old: $database cannot be reached"
else
    echo "deny: advisories were NOT checked: $database cannot be reached, and there is no copy of it on this machine"
    [ "${DENY_STRICT:-}" != 1 ]
fi
