-- Move a key's counters into a claim under a fresh token, or return the claim that an interrupted flush left.
-- KEYS: 1 buffer, 2 claim. ARGV: 1 fresh token. Returns the claim's fields and values; empty where there is nothing.
if redis.call('EXISTS', KEYS[2]) == 0 then
  if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'token', ARGV[1])
end
return redis.call('HGETALL', KEYS[2])
