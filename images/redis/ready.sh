#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Succeeds once Redis has read its data and answers the administrator.
set -eu
REDISCLI_AUTH=$(cat "${AGENTPOOL_REDIS_PASSWORD_FILE:-/etc/agentpool/redis/password}")
export REDISCLI_AUTH
[ "$(redis-cli --user agentpool --no-auth-warning ping)" = PONG ]
