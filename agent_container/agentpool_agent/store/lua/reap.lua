-- SPDX-License-Identifier: Apache-2.0
-- Release what an incarnation that ended still holds. ARGV 4: the incarnation; from 5 on: ids of instances,
-- whose records are KEYS from 5 on. Answers {'OK', how many were released}.

check_pool()
local released = 0
for i = 5, #ARGV do
  -- A record of a wrong type tells nothing, and must not keep the others from being released.
  local owner = redis.pcall('HGET', KEYS[i], 'owner')
  if owner == ARGV[4] then
    vacate(KEYS[i], ARGV[i], 'Evicted')
    released = released + 1
  elseif type(owner) ~= 'table' then
    -- A member without its record would be found again for ever.
    redis.call('ZREM', OWNERS, ARGV[4] .. '|' .. ARGV[i])
  end
end
return {'OK', text(released)}
