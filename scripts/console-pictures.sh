#!/bin/sh
# Takes the pictures of docs/console anew: on a private Waybill, over a recorded city that drew its own map.
# Usage: console-pictures.sh DAY_FIXES EVENING_FIXES EVENING_RIDES [PROGRAM]
#   DAY_FIXES: what draws the map, replayed 600 times faster; the other two: what is on it, 6 times faster. See docs/load-testing.md.
set -eu
day=$(realpath "$1")
evening=$(realpath "$2")
rides=$(realpath "$3")
cd "$(dirname "$0")/.."
program=$(realpath "${4:-target/release/waybill}")
world=$(mktemp -d)
# Where we are root, Postgres runs as another user, who has to enter this folder.
chmod 755 "$world"

export WAYBILL_LIMITS__FIXES_PER_DRIVER__PER_SECOND=1000 WAYBILL_LIMITS__FIXES_PER_DRIVER__BURST=5000
any=127.0.0.1:0
"$program" dev --grpc-addr "$any" --http-addr "$any" --webhooks-addr "$any" --web-addr "$any" --data-dir "$world/data" \
    >"$world/log" 2>&1 &
server=$!
replay=
trap 'kill $replay $server 2>/dev/null || true; wait; rm -rf "$world"' EXIT
trap 'exit 1' INT TERM HUP
until [ -f "$world/data/dev.env" ]; do
    kill -0 "$server" || { cat "$world/log"; exit 1; }
    sleep 1
done
. "$world/data/dev.env"
export GRPC_ADDR SERVICE_TOKEN

echo "pictures: a day draws the map"
"$program" replay --locations "$day" --speed 600 --json >"$world/day.json" 2>>"$world/log"
drawn=0
until [ "$drawn" -ge 3 ]; do
    lag=$(curl -s "http://$HTTP_ADDR/metrics?format=prometheus" | awk '/^waybill_trail_lag_seconds /{print int($2)}')
    if [ "${lag:-1}" -eq 0 ]; then drawn=$((drawn + 1)); else drawn=0; fi
    sleep 2
done
echo "pictures: an evening is on it"
"$program" replay --locations "$evening" --rides "$rides" --speed 6 --json >"$world/evening.json" 2>>"$world/log" &
replay=$!
# Until enough of its drivers are there, and serve.
until [ "$(curl -s "http://$HTTP_ADDR/metrics" | sed -n "s/.*CreateOrder\":{\"count\":\([0-9]*\).*/\1/p")" -gt 100 ] 2>/dev/null; do
    kill -0 "$replay" || { cat "$world/log"; exit 1; }
    sleep 2
done
cd console
[ -d node_modules ] || npm ci --silent --no-audit --no-fund
node screenshots.mjs "$world/data/dev.env"
