#!/bin/sh
# How fast, on this machine, everything beside each other on it: a dense invented city, and what the clients saw.
# The audit after it says that speed cost no promise.
set -eu
cd "$(dirname "$0")/.."
exec "${CARGO:-cargo}" run --release --quiet --package waybill -- \
    demo --for "${BENCH_TIME:-40s}" --drivers "${BENCH_DRIVERS:-1000}" --orders-per-second "${BENCH_ORDERS:-100}"
