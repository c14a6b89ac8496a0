-- Describes a name: {} if there is nothing to tell, otherwise now, mode,
-- permits, end of the lock-delay, length of the line, the state, and holder
-- and record of the first waiters.
local n = open(1)
if n.grants == 0 and n.closed < now and not n.head then return {} end
local line = {}
if n.head then
  local first = call('ZRANGE', n.Q, 0, tonumber(ARGV[1]) - 1)
  local records = call('HMGET', n.W, unpack(first))
  for i, holder in ipairs(first) do
    line[2 * i - 1], line[2 * i] = holder, records[i] or ''
  end
end
return {int(now), n.mode, n.permits, int(n.closed), n.head and call('ZCARD', n.Q) or 0, call('HGETALL', n.H), line}
