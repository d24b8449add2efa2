-- SPDX-License-Identifier: Apache-2.0
-- Write down who declares an instance, and whether its tier was chosen by hand. ARGV 5: declared uid, '' to
-- keep it; 6: '1' or '0', '' to keep it. Answers {'OK', record}.

if redis.call('EXISTS', RECORD) == 0 then return missing() end
regardless_of_memory()
if ARGV[5] ~= '' then redis.call('HSET', RECORD, 'origin', 'declared', 'declared_uid', ARGV[5]) end
if ARGV[6] ~= '' then redis.call('HSET', RECORD, 'pinned', ARGV[6]) end
return {'OK', redis.call('HGETALL', RECORD)}
