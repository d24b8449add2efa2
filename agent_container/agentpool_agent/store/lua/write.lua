-- SPDX-License-Identifier: Apache-2.0
-- Between the prelude and save, register or plant: applies one Write, which lies in ARGV from `at` on as
-- rate, finals kept, their microseconds, then three lists, each with its length in front:
-- parts (name, body), removed (name), finals (key, event).

local function check_types()
  redis.call('HLEN', CHECKPOINT)
  redis.call('HLEN', PREVIOUS)
  redis.call('HLEN', FINALS)
  redis.call('ZCARD', FINALS_ORDER)
end

local function forget(keys)
  for _, key in ipairs(keys) do
    redis.call('HDEL', FINALS, key)
    redis.call('ZREM', FINALS_ORDER, key)
  end
end

local function changes(at)
  local parts = tonumber(ARGV[at + 3])
  return parts > 0 or tonumber(ARGV[at + 4 + 2 * parts]) > 0
end

-- In front of the first change to a part: keeps what it was, as 'part:' and its name, or 'none:' and its name.
local function keep(name)
  if redis.call('HEXISTS', PREVIOUS, 'part:' .. name) + redis.call('HEXISTS', PREVIOUS, 'none:' .. name) > 0 then
    return
  end
  local body = redis.call('HGET', CHECKPOINT, 'part:' .. name)
  if body then
    redis.call('HSET', PREVIOUS, 'part:' .. name, body)
  else
    redis.call('HSET', PREVIOUS, 'none:' .. name, '')
  end
end

-- Makes the previous state the present one, which is gone then.
local function take_back()
  local kept = redis.call('HGETALL', PREVIOUS)
  for i = 1, #kept, 2 do
    if string.sub(kept[i], 1, 5) == 'none:' then
      redis.call('HDEL', CHECKPOINT, 'part:' .. string.sub(kept[i], 6))
    elseif kept[i] ~= 'epoch' then
      redis.call('HSET', CHECKPOINT, kept[i], kept[i + 1])
    end
  end
  redis.call('DEL', PREVIOUS)
end

local function apply(at, epoch)
  if changes(at) then
    redis.call('DEL', PREVIOUS)
    redis.call('HSET', PREVIOUS, 'epoch', epoch)
  end
  local rate, kept, lifetime = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3
  if rate ~= '' then redis.call('HSET', CHECKPOINT, 'rate', rate) end
  local parts = tonumber(ARGV[at])
  for i = at + 1, at + 2 * parts, 2 do
    keep(ARGV[i])
    redis.call('HSET', CHECKPOINT, 'part:' .. ARGV[i], ARGV[i + 1])
  end
  at = at + 1 + 2 * parts
  local removed = tonumber(ARGV[at])
  for i = at + 1, at + removed do
    keep(ARGV[i])
    redis.call('HDEL', CHECKPOINT, 'part:' .. ARGV[i])
  end
  at = at + 1 + removed
  local finals = tonumber(ARGV[at])
  if finals == 0 then return end
  for i = at + 1, at + 2 * finals, 2 do
    redis.call('HSET', FINALS, ARGV[i], ARGV[i + 1])
    redis.call('ZADD', FINALS_ORDER, now, ARGV[i])
  end
  forget(redis.call('ZRANGEBYSCORE', FINALS_ORDER, '-inf', '(' .. text(now - lifetime)))
  forget(redis.call('ZRANGE', FINALS_ORDER, 0, -1 - kept))
  redis.call('PEXPIRE', FINALS, math.ceil(lifetime / 1000))
  redis.call('PEXPIRE', FINALS_ORDER, math.ceil(lifetime / 1000))
end
