#!/bin/sh
# Builds the program to hand out, target/release/dist/waybill, and its symbols beside it, waybill.debug.
#
# The program alone is small, and a panic of it names no function. With waybill.debug in the same folder (or in .debug/ there)
# RUST_BACKTRACE=1 gives functions, files and lines. The two belong to one build. Cargo's own `split-debuginfo` does not
# do this on Linux: line tables stay in the program, and `strip` then removes them.
set -eu
cd "$(dirname "$0")/.."
size_max=25000000
built=${CARGO_TARGET_DIR:-target}/release
dist=$built/dist

command -v objcopy >/dev/null 2>&1 || {
    echo "release: there is no objcopy; install binutils" >&2
    exit 1
}
"${CARGO:-cargo}" build --release --quiet --package waybill
rm -rf "$dist"
mkdir -p "$dist"
objcopy --only-keep-debug --compress-debug-sections=zlib "$built/waybill" "$dist/waybill.debug"
# The link is by name and checksum of the side file, so it is made where that file is.
(cd "$dist" && objcopy --strip-all --add-gnu-debuglink=waybill.debug ../waybill waybill)
chmod 644 "$dist/waybill.debug"

for file in waybill waybill.debug; do
    printf '%12d  %s\n' "$(wc -c <"$dist/$file")" "$dist/$file"
done
[ "$(wc -c <"$dist/waybill")" -lt "$size_max" ] || {
    echo "release: the program is larger than $size_max bytes" >&2
    exit 1
}
