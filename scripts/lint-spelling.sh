#!/bin/sh
# Checks the spelling of the whole repository with typos (typos.toml). Installs the pinned version into .waybill/tools by
# pip, where it is missing. Where that is not possible it prints that spelling was NOT checked.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^typos==\([0-9.]*\).*/\1/p' scripts/requirements-typos.txt)
typos=.waybill/tools/typos/bin/typos

if [ "$("$typos" --version 2>/dev/null)" != "typos-cli $version" ]; then
    if ! python3 -m pip --version >/dev/null 2>&1; then
        echo "lint: there is no python3 with pip, so spelling was NOT checked (typos $version)"
        exit 0
    fi
    rm -rf .waybill/tools/typos
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
        --target .waybill/tools/typos --requirement scripts/requirements-typos.txt || {
        echo "lint: typos $version could not be installed by pip, so spelling was NOT checked"
        exit 0
    }
fi
exec "$typos"
