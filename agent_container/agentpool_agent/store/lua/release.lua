-- SPDX-License-Identifier: Apache-2.0
-- Give an instance up; its state stays. ARGV 5: owner; 6: epoch; 7: generation at the claim; 8: pause reason;
-- 9: rate bucket, '' to keep the stored one; 10: '1' to clear the wish.

local refused = refusal(ARGV[5], ARGV[6], ARGV[7])
if refused then return refused end

check_pool()
redis.call('HLEN', CHECKPOINT)
vacate(RECORD, ID, ARGV[8])
if ARGV[9] ~= '' then redis.call('HSET', CHECKPOINT, 'rate', ARGV[9]) end
if ARGV[10] == '1' then redis.call('HSET', RECORD, 'wish', '') end
return {'OK'}
