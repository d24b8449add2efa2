#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Resolves pyproject.toml into requirements/dev.lock: exact versions with hashes, no index address.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet uv
"$folder/bin/uv" pip compile pyproject.toml --quiet --extra dev --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header --output-file requirements/dev.lock
echo "requirements/dev.lock: $(grep -c '==' requirements/dev.lock) packages"
