-- Claim a key, with or without buffered counters, and tell the applied offsets of this very moment.
-- KEYS: 1 buffer, 2 claim, 3 applied offsets. ARGV: 1 fresh token, 2 now (ms).
-- Returns partitions and offsets, flat; nothing where the claim of another flush is open.
if redis.call('EXISTS', KEYS[2]) == 1 then return false end
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end
redis.call('HSET', KEYS[2], 'token', ARGV[1])
redis.call('HSETNX', KEYS[2], 'since', ARGV[2])
return redis.call('HGETALL', KEYS[3])
