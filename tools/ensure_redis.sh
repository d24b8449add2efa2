#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sees to it that redis-server is on PATH. Tests start their own; no service is left running.
set -eu
if command -v redis-server >/dev/null; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "redis-server is missing: install the package redis-server (Debian, Ubuntu) or redis, then try again." >&2
    exit 1
fi
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ ! -e "$policy" ]; then
    # Debian starts a service as soon as it is installed, unless this program says no.
    trap 'rm -f "$log" "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
echo "installing redis-server ..."
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "apt-get could not install redis-server; install it by hand, then try again." >&2
    exit 1
fi
