-- SPDX-License-Identifier: Apache-2.0
-- Record what the owner is to do once the instance is not busy. ARGV 5: wish, '' for none.
-- Answers {'OK', record}.

if redis.call('EXISTS', RECORD) == 0 then return missing() end
regardless_of_memory()
redis.call('HSET', RECORD, 'wish', ARGV[5])
return {'OK', redis.call('HGETALL', RECORD)}
