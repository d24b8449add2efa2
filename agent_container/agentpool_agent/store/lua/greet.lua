-- SPDX-License-Identifier: Apache-2.0
-- The first command on a master that Sentinel named, without the prelude. KEYS 1: the generation; ARGV 1: time
-- in microseconds, '' for the server's own; 2: the master's address. Answers {'OK'}.

local stored = redis.call('GET', KEYS[1])
-- Whether a missing one was lost, is for a call to find out.
if not stored then return {'OK'} end
local generation, since, address = string.match(stored, '^(%S+) (%d+) ?(%S*)$')
if not generation or address == ARGV[2] then return {'OK'} end
-- Another master may lack what the earlier one acknowledged last: holders come first, as after a loss of data.
if address ~= '' then
  since = ARGV[1]
  if since == '' then
    local time = redis.call('TIME')
    since = string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2]))
  end
end
redis.call('SET', KEYS[1], generation .. ' ' .. since .. ' ' .. ARGV[2])
return {'OK'}
