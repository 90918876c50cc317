#!/bin/sh
# The console: whether console/dist is what its sources make, to the byte, and its promises in a real Chromium against a real server.
# Where there is no Node and none can be installed it says that it did not look.
# Usage: console.sh PROGRAM
set -eu
cd "$(dirname "$0")/.."
program=$(realpath "$1")

# Only what is missing, and only where no question is asked.
install() {
    command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ] || return 0
    echo "console: installing $* by apt-get"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || true
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null || true
}
command -v npm >/dev/null 2>&1 || install nodejs npm
command -v chromium >/dev/null 2>&1 || install chromium

if ! command -v npm >/dev/null 2>&1 || ! command -v chromium >/dev/null 2>&1; then
    echo "console: no Node or no Chromium here, so the console was NOT built and NOT tested"
    exit 0
fi

cd console
npm ci --silent --no-audit --no-fund
npm run --silent build
git diff --exit-code --stat dist || {
    echo "console: dist/ is not what the sources make: commit it after \`npm run build\`" >&2
    exit 1
}
WAYBILL="$program" npm test --silent
