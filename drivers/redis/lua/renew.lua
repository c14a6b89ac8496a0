-- Gives one grant its TTL anew. Returns {RENEWED} or {the refusal}.
local holder, token, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
local n = open(1)
local g = n.grants > 0 and readGrant(call('HGET', n.H, 'g:' .. holder))
if not g or g.token ~= token then
  if call('ZSCORE', n.B, token) then return {BROKEN} end
  return {NOT_HELD}
end
if g.revoked == '1' then return {REVOKED} end
extend(n, holder, g, ttl)
return {RENEWED}
