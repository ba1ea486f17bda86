-- Apply one micro-batch's increments and move its partitions' applied offsets, both or neither.
-- KEYS: 1 applied offsets, 2 dirty weeks, then one hash for each counter key, then one HyperLogLog for each week.
-- The offsets may as well be those of single records, which move once: from absent (-1) to 0.
-- ARGV: now (ms), seconds until a HyperLogLog expires, partitions, { partition, expected offset, new offset }…,
--       counter keys, { fields, { field, increment }… }…, weeks, { member of the dirty set, clients, client… }…
-- Returns nothing when it applied, else the offsets that are applied now, in the order of the partitions.
local at = 3
local function take() at = at + 1; return ARGV[at] end
-- A counter holds 64 bits. What goes beyond stops at the bound: an error here would leave half a batch applied.
local function add(key, field, increment)
  local reply = redis.pcall('HINCRBY', key, field, increment)
  if type(reply) == 'number' then return end
  if not (reply.err:find('overflow') or reply.err:find('not an integer')) then error(reply.err) end
  local bound = increment:sub(1, 1) == '-' and '-9223372036854775808' or '9223372036854775807'
  redis.call('HSET', key, field, bound)
end
local moved, current, stale = {}, {}, false
for i = 1, tonumber(ARGV[3]) do
  local partition, expected, new = take(), take(), take()
  local now = redis.call('HGET', KEYS[1], partition) or '-1'
  current[i] = now
  if now ~= expected then stale = true end
  moved[i] = { partition, new }
end
if stale then return current end
local key = 2
for _ = 1, tonumber(take()) do
  key = key + 1
  for _ = 1, tonumber(take()) do add(KEYS[key], take(), take()) end
  redis.call('HSETNX', KEYS[key], 'since', ARGV[1])
end
for _ = 1, tonumber(take()) do
  key = key + 1
  local member = take()
  for _ = 1, tonumber(take()) do redis.call('PFADD', KEYS[key], take()) end
  -- Also where the estimate did not move: an exact count is no longer known to be one.
  redis.call('SADD', KEYS[2], member)
  redis.call('EXPIRE', KEYS[key], ARGV[2])
end
for _, pair in ipairs(moved) do redis.call('HSET', KEYS[1], pair[1], pair[2]) end
return false
