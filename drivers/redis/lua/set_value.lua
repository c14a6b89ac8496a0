-- Replaces the value of one grant. Returns {VALUE_SET} or {the refusal}.
local holder, token, value = ARGV[1], ARGV[2], ARGV[3]
local n = open(1)
local g = n.grants > 0 and readGrant(call('HGET', n.H, 'g:' .. holder))
if not g or g.token ~= token then
  if call('ZSCORE', n.B, token) then return {BROKEN} end
  return {NOT_HELD}
end
if value == '' then
  call('HDEL', n.H, 'v:' .. holder)
else
  call('HSET', n.H, 'v:' .. holder, value)
end
tell(n)
return {VALUE_SET}
