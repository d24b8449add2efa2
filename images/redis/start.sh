#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes the administrator into the list of users, and starts Redis with it. The line is written anew at each
# start, so that a changed password takes effect; the lines of the pools' users, which the operator makes, stay.
set -eu
users=/data/users.acl
password=$(cat "${AGENTPOOL_REDIS_PASSWORD_FILE:-/etc/agentpool/redis/password}")
digest=$(printf %s "$password" | sha256sum | cut -c1-64)
touch "$users"
# Nobody can enter as the default user, which is off. Its rights are those that Redis replays its file with:
# without them each transaction, and with it everything that scripts wrote, is dropped at a restart.
{
    echo "user default off resetpass ~* &* +@all"
    echo "user agentpool on #$digest ~* &* +@all"
    grep -v -e '^user default ' -e '^user agentpool ' "$users" || true
} > "$users.new"
mv "$users.new" "$users"
exec redis-server /etc/agentpool-redis/redis.conf "$@"
