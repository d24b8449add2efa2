-- SPDX-License-Identifier: Apache-2.0
-- Replace the pool's feature flags. KEYS 5: the hash that has them; ARGV 4: the version that the change was made
-- from; 5: the document. Answers {'OK', '1', new version}, or {'OK', '', version} when there is a later one.

local stored = redis.call('HGET', RECORD, 'version')
if stored and tonumber(stored) > tonumber(ARGV[4]) then return {'OK', '', stored} end

-- A rollback must be possible when everything is full.
regardless_of_memory()
local version = text(math.max(tonumber(ARGV[4]) + 1, now))
redis.call('HSET', RECORD, 'version', version, 'document', ARGV[5])
return {'OK', '1', version}
