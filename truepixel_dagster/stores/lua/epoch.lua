-- In front of every script: stop before the first write if Redis does not hold what was written to it before.
-- The last key is the hash `identity`; the last arguments are the epoch and the least number of writes that it must hold.
-- An empty epoch is not checked.
local least, epoch, identity = table.remove(ARGV), table.remove(ARGV), table.remove(KEYS)
if epoch ~= '' then
  local held = redis.call('HMGET', identity, 'epoch', 'writes')
  if held[1] ~= epoch or tonumber(held[2] or '0') < tonumber(least) then
    return redis.error_reply('STATELOST ' .. (held[1] or '-') .. ' ' .. (held[2] or '0'))
  end
end
