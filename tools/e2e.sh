#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The tests that need a cluster: brings one up, installs this checkout on it, tests it. Where none can be had
# (exit code 3 of the preflight) they are left out and it says so, except in CI, where that is a failure.
set -eu
cd "$(dirname "$0")/.."
status=0
python3 tools/devcluster preflight || status=$?
if [ "$status" -eq 3 ] && [ -z "${CI:-}" ]; then
    printf '%-10s left out: no cluster can be had here, see above\n' e2e
    exit 0
fi
[ "$status" -eq 0 ] || exit "$status"
tools/step.sh cluster python3 tools/devcluster up
. .devcluster/env
tools/step.sh chart .venv/bin/pytest -q tests/chart
tools/step.sh api-server tools/pytest_twice.sh tests/integration
tools/step.sh deploy python3 tools/deploy.py
tools/step.sh e2e tools/pytest_twice.sh tests/e2e
