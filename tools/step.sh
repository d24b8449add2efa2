#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# step.sh NAME COMMAND...: runs the command and prints one line with its time; its output only when it fails,
# or always with VERBOSE=1.
set -eu
name=$1
shift
started=$(date +%s)
if [ -n "${VERBOSE:-}" ]; then
    "$@"
    printf '%-10s ok      %4ds\n' "$name" $(($(date +%s) - started))
    exit 0
fi
output=$(mktemp)
trap 'rm -f "$output"' EXIT
if "$@" >"$output" 2>&1; then
    printf '%-10s ok      %4ds  %s\n' "$name" $(($(date +%s) - started)) "$(tail -n 1 "$output" | cut -c1-400)"
else
    status=$?
    cat "$output"
    printf '%-10s FAILED  %4ds  %s\n' "$name" $(($(date +%s) - started)) "$*"
    exit "$status"
fi
