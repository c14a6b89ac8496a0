-- Ends one grant. Returns {RELEASED} or {NOT_HELD}, or {RELEASED, GRANTED, '0',
-- TOKEN} if the waiter whose attempt came along has the name now.
local holder, token = ARGV[1], ARGV[2]
local n = open(1)
local g = n.grants > 0 and readGrant(call('HGET', n.H, 'g:' .. holder))
if not g or g.token ~= token then return {NOT_HELD} end
take(n, holder)
save(n)
wake(n, true)
tell(n)
return {RELEASED}
