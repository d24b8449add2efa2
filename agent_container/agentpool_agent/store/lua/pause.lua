-- SPDX-License-Identifier: Apache-2.0
-- Change why an instance that nobody holds is paused. ARGV 5: pause reason. Answers {'OK', record}.

local holder = redis.call('HGET', RECORD, 'owner')
if not holder then return missing() end
if holder ~= '' then return {'NOT_OWNER', holder} end
regardless_of_memory()
redis.call('HSET', RECORD, 'paused', ARGV[5])
return {'OK', redis.call('HGETALL', RECORD)}
