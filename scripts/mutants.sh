#!/usr/bin/env bash
# Shows that the torture rig can see: each patch in mutants/ breaks the program in one way, in a scratch copy of the tree,
# and the rig, built from the tree as it is, has to find that promise broken. A patch that no longer applies, a mutant that
# does not build, and a finding about another promise are errors and no kills.
#
#   scripts/mutants.sh              all of them
#   scripts/mutants.sh 03 07        those
#
# A patch begins with a line for people, then `Breaks:` and the promises of which one must be found broken, and, where the
# usual mix of faults would take long, `Settings:` and the rig's own settings. MUTANT_SECONDS (45) of torture a try,
# MUTANT_TRIES (6) tries before a mutant counts as alive; the program as it is has to pass each such run twice.
#
# What takes minutes, or a person at the provider, is beyond the rig: such a patch has `Test:` instead, and the name of the
# end-to-end test that has to fail; or `Unit:`, and that of a unit test of the server. Of the program as it is the test has to pass.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
scratch=$root/target/mutants
tree=$scratch/tree
export CARGO_TERM_COLOR=never
# The scratch copy lies within this repository, and is not part of it.
export GIT_CEILING_DIRECTORIES=$scratch

die() {
    echo "mutants: $*" >&2
    exit 1
}

# Of a patch, what follows this word at the beginning of a line.
header() {
    sed --quiet "/^diff /q; s/^$2: *//p" "$1"
}

# All times are of now: cargo must not take a file that was patched back for one that it has built.
fresh_tree() {
    rm -rf "$tree"
    mkdir -p "$tree"
    git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- --ignore-failed-read |
        tar --extract --touch --directory "$tree"
}

build_program() {
    (cd "$tree" && CARGO_TARGET_DIR=$scratch/build cargo build --quiet --package waybill-tests --bin waybill-under-test)
}

# The rig of the tree as it is, whatever happens to the tree meanwhile.
build_rig() {
    local built
    built=$(cargo test --package waybill-tests --test torture --no-run 2>&1) || die "the rig does not build: $built"
    cp "$(sed --quiet 's/^ *Executable .*(\(.*\))$/\1/p' <<<"$built")" "$scratch/rig"
}

# $1 is where the rig's output goes, the rest its settings; the rig's status.
torture() {
    local log=$1
    shift
    env TORTURE_PROGRAM="$scratch/build/debug/waybill-under-test" TORTURE_SECONDS="${MUTANT_SECONDS:-45}" "$@" \
        "$scratch/rig" >"$log" 2>&1
}

# Builds the end-to-end tests of the scratch tree; those of these names fail or pass.
build_tests() {
    (cd "$tree" && CARGO_TARGET_DIR=$scratch/build cargo test --quiet --package waybill-tests --test e2e --no-run)
}

run_tests() {
    local log=$1
    shift
    (cd "$tree" && CARGO_TARGET_DIR=$scratch/build \
        cargo test --quiet --package waybill-tests --test e2e -- --exact "$@") >"$log" 2>&1
}

build_units() {
    (cd "$tree" && CARGO_TARGET_DIR=$scratch/build cargo test --quiet --package waybill-server --lib --no-run)
}

run_units() {
    local log=$1
    shift
    (cd "$tree" && CARGO_TARGET_DIR=$scratch/build \
        cargo test --quiet --package waybill-server --lib -- --exact "$@") >"$log" 2>&1
}

patches=()
for number in "${@:-}"; do
    for patch in mutants/"$number"*.patch; do
        [ -f "$patch" ] || die "there is no patch $number"
        patches+=("$patch")
    done
done

echo "mutants: building the rig and the program as it is"
fresh_tree
build_rig
for patch in "${patches[@]}"; do
    git -C "$tree" apply --check "$root/$patch" || die "$patch does not apply any more: bring it up to date"
    [ -n "$(header "$patch" Breaks)$(header "$patch" Test)$(header "$patch" Unit)" ] || die "$patch does not say what it breaks"
done
build_program
: >"$scratch/settings"
tests=()
units=()
for patch in "${patches[@]}"; do
    if [ -n "$(header "$patch" Test)" ]; then
        tests+=("$(header "$patch" Test)")
    elif [ -n "$(header "$patch" Unit)" ]; then
        units+=("$(header "$patch" Unit)")
    else
        header "$patch" Settings | grep . || echo
    fi >>"$scratch/settings"
done
sort --unique --output="$scratch/settings" "$scratch/settings"
if [ "${#tests[@]}" -gt 0 ]; then
    build_tests || die "the tests do not build"
    run_tests "$scratch/clean.log" "${tests[@]}" || die "the program as it is does not pass: see $scratch/clean.log"
    printf 'passed   %-26s %s\n' 'the program as it is' "$(grep '^test result' "$scratch/clean.log")"
fi
if [ "${#units[@]}" -gt 0 ]; then
    build_units || die "the unit tests do not build"
    run_units "$scratch/clean.log" "${units[@]}" || die "the program as it is does not pass: see $scratch/clean.log"
    printf 'passed   %-26s %s\n' 'the program as it is' "$(grep '^test result' "$scratch/clean.log")"
fi
while read -r -a settings <&3; do
    for try in 1 2; do
        torture "$scratch/clean.log" "${settings[@]}" || die "the program as it is does not pass: see $scratch/clean.log"
        printf 'passed   %-26s %s\n' 'the program as it is' "$(tail -n 1 "$scratch/clean.log")"
    done
done 3<"$scratch/settings"

killed=0
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    breaks=$(header "$patch" Breaks | tr ' ' '|')
    read -r -a settings <<<"$(header "$patch" Settings)"
    git -C "$tree" apply "$root/$patch"
    by=
    test=$(header "$patch" Test)
    kind=tests
    if [ -z "$test" ]; then
        test=$(header "$patch" Unit)
        kind=units
    fi
    if [ -n "$test" ]; then
        log=$scratch/$name.log
        "build_$kind" || die "$name does not build"
        "run_$kind" "$log" "$test" || by=$(grep --max-count=1 "^test $test ... FAILED\|^    $test\$" "$log") ||
            die "$name: the test did not run to its end: see $log"
        git -C "$tree" apply --reverse "$root/$patch"
        if [ -n "$by" ]; then
            killed=$((killed + 1))
            printf 'killed   %-26s by %.100s\n' "$name" "$test"
        else
            printf 'ALIVE    %-26s %s\n' "$name" "$(head -n 1 "$patch")"
        fi
        continue
    fi
    build_program || die "$name does not build"
    for try in $(seq "${MUTANT_TRIES:-6}"); do
        log=$scratch/$name.$try.log
        if torture "$log" "${settings[@]}"; then continue; fi
        by=$(grep --max-count=1 --extended-regexp --only-matching "VIOLATION ($breaks): .*" "$log") ||
            die "$name: the rig failed, and not for $breaks: see $log"
        break
    done
    git -C "$tree" apply --reverse "$root/$patch"
    if [ -n "$by" ]; then
        killed=$((killed + 1))
        printf 'killed   %-26s try %s: %.100s\n' "$name" "$try" "${by#VIOLATION }"
    else
        printf 'ALIVE    %-26s %s\n' "$name" "$(head -n 1 "$patch")"
    fi
done
echo "mutants: $killed/${#patches[@]} killed"
[ "$killed" = "${#patches[@]}" ]
