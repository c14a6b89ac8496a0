-- Ends one grant. Returns {RELEASED} or {NOT_HELD}. The waiter with a word need
-- not be called: its attempt comes right behind.
local holder, token, word = ARGV[1], ARGV[2], ARGV[3]
local n = open(1)
local g = n.grants > 0 and readGrant(call('HGET', n.H, 'g:' .. holder))
if not g or g.token ~= token then return {NOT_HELD} end
take(n, holder)
save(n)
wake(n, true, word)
tell(n)
return {RELEASED}
