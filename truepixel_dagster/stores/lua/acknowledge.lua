-- Delete a claim that has been written. KEYS: 1 claim. ARGV: 1 its token: another one is not ours to delete.
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
