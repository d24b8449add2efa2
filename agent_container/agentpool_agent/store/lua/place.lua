-- SPDX-License-Identifier: Apache-2.0
-- Change the tier of an instance that nobody holds. ARGV 5: tier. Answers {'OK', record}.

local holder = redis.call('HGET', RECORD, 'owner')
if not holder then return missing() end
if holder ~= '' then return {'NOT_OWNER', holder} end
regardless_of_memory()
redis.call('HSET', RECORD, 'tier', ARGV[5])
return {'OK', redis.call('HGETALL', RECORD)}
