-- SPDX-License-Identifier: Apache-2.0
-- Replace the failure history. ARGV 5: owner; 6: epoch; 7: generation at the claim; 8: the history;
-- 9: rate bucket, '' to keep the stored one.

local refused = refusal(ARGV[5], ARGV[6], ARGV[7])
if refused then return refused end

regardless_of_memory()
redis.call('HLEN', CHECKPOINT)
redis.call('HSET', RECORD, 'failures', ARGV[8])
if ARGV[9] ~= '' then redis.call('HSET', CHECKPOINT, 'rate', ARGV[9]) end
return {'OK'}
