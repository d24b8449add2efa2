-- SPDX-License-Identifier: Apache-2.0
-- In front of every script. KEYS 1-4 are the pool's; 5-9 are one instance's (records only, in reap; those of
-- several instances, in prune).
-- ARGV 1: time in microseconds, '' for the server's own; 2: a name for a new generation;
-- 3: microseconds after a loss of data in which only holders may register; 4: the instance's id.

local INDEX, OWNERS, COUNTS = KEYS[2], KEYS[3], KEYS[4]
local RECORD, CHECKPOINT, PREVIOUS, FINALS, FINALS_ORDER = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local ID = ARGV[4]

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Epochs and times are below 2^53, so a double holds them exactly; '%.0f' prints all their digits.
local function text(number) return string.format('%.0f', number) end

-- "name stamp", and behind Sentinel also the master's address, which `greet` keeps; stamp 0: drawn by
-- initialise. Whoever finds the key missing has noticed a loss of data.
local stored_generation = redis.call('GET', KEYS[1])
if not stored_generation then
  stored_generation = ARGV[2] .. ' ' .. text(now)
  redis.call('SET', KEYS[1], stored_generation)
end
local generation, since = string.match(stored_generation, '^(%S+) (%d+) ?%S*$')
if not generation then return redis.error_reply('ERR the generation key holds something else') end
local waiting = 0
if since ~= '0' then waiting = math.max(0, tonumber(since) + tonumber(ARGV[3]) - now) end
local LOST = {'LOST', text(waiting)}

-- Why a write of this owner and epoch is refused; nil when it is not.
local function refusal(owner, epoch, born)
  if born ~= generation then return LOST end
  local held = redis.call('HMGET', RECORD, 'owner', 'epoch')
  if held[1] == owner and held[2] == epoch then return nil end
  -- Soon after a failover a missing record is one that the new master never saw.
  if not held[1] and waiting > 0 then return LOST end
  -- An epoch never falls while the data lives: the store came back with an older state.
  if held[2] and tonumber(held[2]) < tonumber(epoch) then return LOST end
  return {'GONE'}
end

-- Soon after a loss of data a missing record may belong to a holder that has not registered yet.
local function missing()
  if waiting > 0 then return LOST end
  return {'MISSING'}
end

-- A script is not undone when it fails, so keys of a wrong type must show before the first change.
local function check_pool()
  redis.call('ZCARD', INDEX)
  redis.call('ZCARD', OWNERS)
  redis.call('HLEN', COUNTS)
end

-- Whether `later` is a later life of the same pod as `earlier` (both 'pod/nonce').
local function restarted(earlier, later)
  local pod, nonce = string.match(earlier, '^(.*)/([^/]*)$')
  local same_pod, later_nonce = string.match(later, '^(.*)/([^/]*)$')
  return pod ~= nil and pod == same_pod and later_nonce > nonce
end

local function count(tier, tenant_hash, step)
  for _, name in ipairs({'total', 'tier:' .. tier, 'tenant:' .. tenant_hash}) do
    if redis.call('HINCRBY', COUNTS, name, step) <= 0 then redis.call('HDEL', COUNTS, name) end
  end
end

-- What a write replaced is kept for the epoch in which it was replaced; whoever begins another epoch without
-- changing the state takes it along. It is dropped when somebody in between did not know of it.
local function inherit_previous(earlier, epoch)
  local kept = redis.call('HGET', PREVIOUS, 'epoch')
  if kept and kept == earlier then
    redis.call('HSET', PREVIOUS, 'epoch', epoch)
  elseif kept then
    redis.call('DEL', PREVIOUS)
  end
end

-- Redis asks whether memory is left before the first write of a script only, and never for one that removes.
-- Behind this, the few bytes of a change to a known record need none, so that a full store serves on.
local function regardless_of_memory() redis.call('HDEL', RECORD, '') end

-- Takes the owner out of the owners and counts; the caller writes the record.
local function uncount(record, id)
  local held = redis.call('HMGET', record, 'owner', 'tier', 'tenant_hash')
  redis.call('ZREM', OWNERS, held[1] .. '|' .. id)
  count(held[2], held[3], -1)
end

local function vacate(record, id, paused)
  uncount(record, id)
  redis.call('HSET', record, 'owner', '', 'paused', paused, 'updated', text(now))
end
