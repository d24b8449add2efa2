-- SPDX-License-Identifier: Apache-2.0
-- Remove instances that were not used for long. ARGV 4: microseconds since 1970 of the oldest use that is kept;
-- from 5 on: ids, each of whose five keys are KEYS from 5 on. Answers {'OK', how many were removed}.

if waiting > 0 then return LOST end
check_pool()
local removed = 0
for i = 5, #ARGV do
  local first = 5 + 5 * (i - 5)
  -- One key of a wrong type must not keep the others from being removed.
  local held = redis.pcall('HMGET', KEYS[first], 'owner', 'origin', 'updated')
  if held[1] == '' and held[2] == 'observed' and tonumber(held[3]) < tonumber(ARGV[4]) then
    redis.call('ZREM', INDEX, ARGV[i])
    redis.call('DEL', unpack(KEYS, first, first + 4))
    removed = removed + 1
  end
end
return {'OK', text(removed)}
