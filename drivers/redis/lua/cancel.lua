-- Undoes a request: its places in the lines, and the grants made for its id.
local holder, id, client, number = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local X, Y, request = KEYS[7], KEYS[8], holder .. '\n' .. id
local old = call('ZRANGEBYSCORE', Y, '-inf', now - CANCELLED_LIFE, 'LIMIT', 0, 10)
drop('ZREM', Y, old)
drop('HDEL', X, old)
call('HSET', X, request, client .. ' ' .. number)
call('ZADD', Y, now, request)
call('PEXPIRE', X, millis(CANCELLED_LIFE))
call('PEXPIRE', Y, millis(CANCELLED_LIFE))

for i = 1, #KEYS / $KINDS do
  local n = open(i)
  local g = n.grants > 0 and readGrant(call('HGET', n.H, 'g:' .. holder))
  local w = n.head and readWaiter(call('HGET', n.W, holder))
  local moved = false
  if g and g.id == id then
    take(n, holder)
    moved = true
  end
  if w and w.id == id then
    moved = moved or n.head == holder
    leave(n, {holder})
  end
  if moved or w then
    save(n)
    wake(n, moved)
    tell(n)
  end
end
return {CANCELLED}
