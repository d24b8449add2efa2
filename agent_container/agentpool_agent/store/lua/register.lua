-- SPDX-License-Identifier: Apache-2.0
-- A holder writes its whole state again after a loss of data. ARGV 5: owner; 6: epoch; 7: generation at the
-- claim; 8: version of its copy; 9: number of this attempt, growing within the owner; 10: tier; 11: tenant;
-- 12: project; 13: tenant's hash; 14: origin; 15: declared uid; 16: failures; from 17 on: the write.
-- Answers {'OK', epoch, generation}.

local owner, epoch, attempt, tier, tenant_hash = ARGV[5], ARGV[6], ARGV[9], ARGV[10], ARGV[13]
local held = redis.call('HMGET', RECORD, 'owner', 'epoch', 'version', 'attempt', 'registered_from')

local function may_register()
  -- Its own earlier attempt arrived though the answer did not, and nothing was written since.
  if held[1] == owner and held[5] == epoch and held[3] == '0' and held[4] < attempt then return true end
  -- Without a loss of data or a failover a missing record was erased, and stays so.
  if not held[1] then return ARGV[7] ~= generation or waiting > 0 end
  if ARGV[7] == generation then
    -- The store came back with an older state, or nothing was lost for this instance.
    if tonumber(held[2]) < tonumber(epoch) then return true end
    return held[1] == owner and held[2] == epoch and tonumber(held[3]) <= tonumber(ARGV[8])
  end
  return false
end
if not may_register() then return {'GONE'} end

check_pool()
check_types()
if held[1] and held[1] ~= '' then uncount(RECORD, ID) end
local fresh_epoch = text(math.max(tonumber(held[2] or '0') + 1, tonumber(epoch) + 1, now))
redis.call('HSET', RECORD, 'owner', owner, 'epoch', fresh_epoch, 'version', '0', 'attempt', attempt,
  'registered_from', epoch, 'tier', tier, 'tenant', ARGV[11], 'project', ARGV[12],
  'tenant_hash', tenant_hash, 'origin', ARGV[14], 'declared_uid', ARGV[15], 'paused', '',
  'updated', text(now))
redis.call('HSETNX', RECORD, 'wish', '')
if (redis.call('HGET', RECORD, 'failures') or '') == '' then
  redis.call('HSET', RECORD, 'failures', ARGV[16])
end
redis.call('ZADD', INDEX, 0, ID)
redis.call('ZADD', OWNERS, 0, owner .. '|' .. ID)
count(tier, tenant_hash, 1)
redis.call('DEL', CHECKPOINT, PREVIOUS)
apply(17, fresh_epoch)
-- What it replaced was not known to be a state that this holder had.
redis.call('DEL', PREVIOUS)
return {'OK', fresh_epoch, generation}
