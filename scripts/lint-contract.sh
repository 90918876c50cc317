#!/bin/sh
# Lints the contract with buf, from npm. Where there is no Node it says that it did not.
# Usage: lint-contract.sh PATH_OF_BUF VERSION
set -eu
cd "$(dirname "$0")/.."
buf="$1"
version="$2"

if ! command -v npm >/dev/null 2>&1; then
    echo "lint: no Node here, so the contract in proto/ was NOT linted (buf $version)"
    exit 0
fi
if [ "$("$buf" --version 2>/dev/null)" != "$version" ]; then
    mkdir -p .waybill/tools
    npm install --silent --no-audit --no-fund --prefix .waybill/tools "@bufbuild/buf@$version" >/dev/null
fi
"$buf" lint proto
"$buf" format --diff --exit-code proto >/dev/null || {
    echo "lint: proto/ is not formatted: run $buf format --write proto" >&2
    exit 1
}
