#!/bin/sh
# Compares the boundary traces of 1,000 seeds of each kind with those in boundary.txt beside this
# script. Exit 0: all are the same. With --record they are written there instead.
#
# A change that must not change what the engine does (a renaming, a move) leaves them as they are.
# Before such a change, record them; a change of behaviour changes them, and that is no fault.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
if [ "${1:-}" != --record ] && [ ! -e "$here/boundary.txt" ]; then
    echo 'there is no boundary.txt: record one before the change, with --record' >&2
    exit 2
fi
made=$(mktemp)
trap 'rm -f "$made" "$made.differ"' EXIT
DIRSYNC_BOUNDARY=$made DIRSYNC_SEEDS=${DIRSYNC_SEEDS:-1000} \
    cargo test --locked --test simulation -- --exact each_seed_has_its_own_boundary_trace
if [ "${1:-}" = --record ]; then
    cp "$made" "$here/boundary.txt"
    exit 0
fi
# So that fewer seeds can be compared as well.
while read -r kind seed hash; do
    grep -qx "$kind $seed $hash" "$here/boundary.txt" || echo "$kind $seed"
done <"$made" >"$made.differ"
count=$(wc -l <"$made.differ")
echo "$count of $(wc -l <"$made") traces differ"
head -n 20 "$made.differ"
[ "$count" = 0 ]
