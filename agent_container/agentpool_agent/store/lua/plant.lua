-- SPDX-License-Identifier: Apache-2.0
-- Make an instance from a state. ARGV 5: '1' to replace one that exists; 6: tier; 7: tenant; 8: project;
-- 9: tenant's hash; 10: origin; from 11 on: the write. Answers {'OK', record}.

local held = redis.call('HMGET', RECORD, 'owner', 'epoch', 'tier', 'origin', 'declared_uid')
-- The instance may belong to a holder that has not registered yet.
if waiting > 0 then return LOST end
local holder = held[1] or ''
if holder ~= '' then return {'NOT_OWNER', holder} end
if held[1] and ARGV[5] ~= '1' then return {'EXISTS'} end

check_pool()
check_types()
local epoch = text(math.max(tonumber(held[2] or '0') + 1, now))
redis.call('HSET', RECORD, 'owner', '', 'epoch', epoch, 'version', '0', 'tier', held[3] or ARGV[6],
  'tenant', ARGV[7], 'project', ARGV[8], 'tenant_hash', ARGV[9], 'origin', held[4] or ARGV[10],
  'declared_uid', held[5] or '', 'paused', 'Evicted', 'wish', '', 'failures', '', 'updated', text(now))
redis.call('ZADD', INDEX, 0, ID)
-- Answers by key rest on the state that is replaced.
redis.call('DEL', CHECKPOINT, PREVIOUS, FINALS, FINALS_ORDER)
apply(11, epoch)
return {'OK', redis.call('HGETALL', RECORD)}
