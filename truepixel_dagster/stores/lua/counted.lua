-- Take a week off the dirty set, unless its count has grown since it was written.
-- KEYS: 1 HyperLogLog, 2 the one that a rebuild has set aside, 3 dirty weeks.
-- ARGV: 1 member of the dirty set, 2 the count that was written.
if redis.call('PFCOUNT', KEYS[1], KEYS[2]) <= tonumber(ARGV[2]) then return redis.call('SREM', KEYS[3], ARGV[1]) end
return 0
