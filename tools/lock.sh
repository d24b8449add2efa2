#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Resolves pyproject.toml into requirements/*.lock: exact versions with hashes, no index address.
# dev.lock first; the images' locks take their versions from it, so what is tested is what is shipped.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet uv

# lock NAME EXTRA [CONSTRAINTS]
lock() {
    "$folder/bin/uv" pip compile pyproject.toml --quiet --extra "$2" --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-header ${3:+--constraint "$3"} --output-file "requirements/$1.lock"
    echo "requirements/$1.lock: $(grep -c '==' "requirements/$1.lock") packages"
}

[ "${1:-}" = images ] || lock dev dev
lock base rpc requirements/dev.lock
# The client of the API server is the largest part of two images: a lock, and so a layer, of its own.
printf 'kubernetes\naiohttp\n' | "$folder/bin/uv" pip compile - --quiet --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header --constraint requirements/dev.lock --output-file requirements/kubernetes.lock
echo "requirements/kubernetes.lock: $(grep -c '==' requirements/kubernetes.lock) packages"
for part in operator gateway agent; do
    lock "$part" "$part" requirements/dev.lock
done
