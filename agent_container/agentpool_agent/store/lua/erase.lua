-- SPDX-License-Identifier: Apache-2.0
-- Remove everything of an instance. ARGV 5: who asks; from 6 on: incarnations that ended.

local holder = redis.call('HGET', RECORD, 'owner')
if not holder then return missing() end
local proven = holder == '' or holder == ARGV[5] or restarted(holder, ARGV[5])
for i = 6, #ARGV do proven = proven or ARGV[i] == holder end
if not proven then return {'NOT_OWNER', holder} end
-- Its holder may not have registered yet, and would bring it back.
if waiting > 0 and holder ~= ARGV[5] then return LOST end
check_pool()
if holder ~= '' then uncount(RECORD, ID) end
redis.call('ZREM', INDEX, ID)
redis.call('DEL', RECORD, CHECKPOINT, PREVIOUS, FINALS, FINALS_ORDER)
return {'OK'}
