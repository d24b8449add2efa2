-- SPDX-License-Identifier: Apache-2.0
-- Own an instance. ARGV 5: owner; 6: tier; 7: tenant; 8: project; 9: tenant's hash; 10: origin;
-- 11: declared uid; 12: '1' to resume; 13-15: caps in total, of the tier, of the tenant, '' for none;
-- 16: microseconds between two swaps by proof; from 17 on: incarnations that ended.
-- Answers {'OK', epoch, version, tier, fresh, generation, origin, declared uid, failures}.

local owner, tier, tenant_hash = ARGV[5], ARGV[6], ARGV[9]
local held = redis.call('HMGET', RECORD, 'owner', 'epoch', 'tier', 'paused', 'swapped', 'version')
local holder = held[1] or ''
-- A rate bucket alone is no state. It also shows a wrong type before the first change.
local fresh = redis.call('HLEN', CHECKPOINT) - redis.call('HEXISTS', CHECKPOINT, 'rate') == 0 and '1' or ''

local function answer(epoch, version)
  local known = redis.call('HMGET', RECORD, 'tier', 'origin', 'declared_uid', 'failures')
  return {'OK', epoch, version, known[1], fresh, generation, known[2], known[3], known[4] or ''}
end

check_pool()
redis.call('HLEN', PREVIOUS)
if holder == owner then
  regardless_of_memory()
  -- The raised version refuses writes of this owner that are still on their way from before.
  redis.call('HSET', RECORD, 'updated', text(now))
  return answer(held[2], text(redis.call('HINCRBY', RECORD, 'version', 1)))
end
if waiting > 0 then return LOST end

local swapped = held[5] or '0'
if holder ~= '' and not restarted(holder, owner) then
  local proven = false
  for i = 17, #ARGV do proven = proven or ARGV[i] == holder end
  if not proven then return {'NOT_OWNER', holder} end
  if now - tonumber(swapped) < tonumber(ARGV[16]) then return {'NOT_OWNER', holder} end
  swapped = text(now)
end
if held[4] == 'UserRequested' and ARGV[12] ~= '1' then return {'PAUSED'} end

-- What is already counted is not held against a cap that was lowered meanwhile.
local function full(cap, name)
  return cap ~= '' and tonumber(redis.call('HGET', COUNTS, name) or '0') >= tonumber(cap)
end
if holder == '' and full(ARGV[13], 'total') then return {'FULL', 'total'} end
if (holder == '' or held[3] ~= tier) and full(ARGV[14], 'tier:' .. tier) then return {'FULL', 'tier'} end
if holder == '' and full(ARGV[15], 'tenant:' .. tenant_hash) then return {'FULL', 'tenant'} end

local epoch = text(math.max(tonumber(held[2] or '0') + 1, now))
if held[1] then regardless_of_memory() end
if holder ~= '' then uncount(RECORD, ID) end
if not held[1] then
  redis.call('HSET', RECORD, 'tenant', ARGV[7], 'project', ARGV[8], 'tenant_hash', tenant_hash,
    'origin', ARGV[10], 'declared_uid', ARGV[11], 'wish', '')
  redis.call('ZADD', INDEX, 0, ID)
end
redis.call('HSET', RECORD, 'owner', owner, 'epoch', epoch, 'version', '0', 'tier', tier, 'paused', '',
  'swapped', swapped, 'registered_from', '', 'updated', text(now))
inherit_previous(held[2], epoch)
redis.call('ZADD', OWNERS, 0, owner .. '|' .. ID)
count(tier, tenant_hash, 1)
return answer(epoch, '0')
