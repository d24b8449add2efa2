#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# pytest_twice.sh ARGUMENTS...: pytest; what failed runs once more by itself. Tests that start processes meet the
# noise of a shared machine. A test that needed its second try is named in the last line, so that it is mended.
# PYTEST_CACHE: a folder of its own for each of two that run at once.
set -eu
cache=${PYTEST_CACHE:-.pytest_cache}
failed=$cache/v/cache/lastfailed
rm -f "$failed"
status=0
.venv/bin/pytest -q -o cache_dir="$cache" "$@" || status=$?
[ "$status" -eq 1 ] || exit "$status"
cp "$failed" "$failed.first"
trap 'rm -f "$failed.first"' EXIT
.venv/bin/pytest -q -o cache_dir="$cache" --last-failed --last-failed-no-failures none "$@"
printf 'passed at the second try: %s\n' "$(tr -d '{}\n "' <"$failed.first" | sed 's/:true//g')"
