#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# e2e.sh LANES STEP...: brings a cluster up, then runs the tests that need one beside the further steps of the
# Makefile, so many at once. Where none can be had (exit code 3 of the preflight) its tests are left out and it
# says so, except in CI, where that is a failure. The first time on a machine the cluster's programs are built,
# which takes every core for minutes: nothing runs beside it.
set -u
cd "$(dirname "$0")/.."
lanes=$1
shift
pods='step-pods step-operator step-api-server'
status=0
python3 tools/devcluster preflight || status=$?
if [ "$status" -eq 3 ] && [ -z "${CI:-}" ]; then
    printf '%-10s left out: no cluster can be had here, see above\n' e2e
    status=0 pods=
elif [ "$status" -eq 0 ]; then
    tools/step.sh cluster python3 tools/devcluster up || status=$?
fi
# Without a cluster that should be there the other steps are worth their answer all the same.
[ "$status" -eq 0 ] || pods=
# shellcheck disable=SC2086  # each word is a step
set -- $pods "$@"
if [ $# -gt 0 ]; then
    # As many at once as said here, whatever make was started with; variables of its command line are exported.
    unset MAKEFLAGS MFLAGS
    make --no-print-directory -j"$lanes" -k "$@" || status=$?
fi
exit "$status"
