-- SPDX-License-Identifier: Apache-2.0
-- One fenced write. ARGV 5: owner; 6: epoch; 7: generation at the claim; 8: the version that the owner's
-- copy of the state rests on; 9: '1' when that copy is the previous state; 10: the write's name; from 11 on: the
-- write. Answers {'OK', new version}.

local refused = refusal(ARGV[5], ARGV[6], ARGV[7])
if refused then return refused end

-- A write without an answer may be applied late, or be lost with the server's last second. Writing parts on
-- top of either would mix two states.
local held = redis.call('HMGET', RECORD, 'version', 'written')
local version, base = tonumber(held[1]), tonumber(ARGV[8])
-- It was made before, and its answer was lost. The number alone does not tell: it may be another unheard write's.
if version == base + 1 and held[2] == ARGV[10] then return {'OK', held[1]} end
if version > base then return {'GONE'} end
if version < base then return LOST end

check_types()
-- First of all writes, for Redis asks for memory before this one only.
redis.call('HSET', RECORD, 'updated', text(now), 'written', ARGV[10])
if ARGV[9] == '1' and changes(11) then take_back() end
apply(11, ARGV[6])
return {'OK', text(redis.call('HINCRBY', RECORD, 'version', 1))}
