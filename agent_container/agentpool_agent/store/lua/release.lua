-- SPDX-License-Identifier: Apache-2.0
-- Give an instance up; its state stays. ARGV 5: owner; 6: epoch; 7: generation at the claim; 8: pause reason;
-- 9: rate bucket, '' to keep the stored one; 10: '1' to clear the wish; 11: tier of the next activation, ''
-- to keep it; 12: cap of that tier, '' for none.

local refused = refusal(ARGV[5], ARGV[6], ARGV[7])
if refused then return refused end

check_pool()
redis.call('HLEN', CHECKPOINT)
if ARGV[11] ~= '' and ARGV[12] ~= '' and ARGV[11] ~= redis.call('HGET', RECORD, 'tier')
  and tonumber(redis.call('HGET', COUNTS, 'tier:' .. ARGV[11]) or '0') >= tonumber(ARGV[12]) then
  return {'FULL', 'tier'}
end
vacate(RECORD, ID, ARGV[8])
if ARGV[9] ~= '' then redis.call('HSET', CHECKPOINT, 'rate', ARGV[9]) end
if ARGV[10] == '1' then redis.call('HSET', RECORD, 'wish', '') end
if ARGV[11] ~= '' then redis.call('HSET', RECORD, 'tier', ARGV[11]) end
return {'OK'}
