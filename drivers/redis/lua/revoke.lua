-- An operator's act on the grant with a token, or on all if it is empty.
-- Returns how many there were.
local token, brk = ARGV[1], ARGV[2] == '1'
local n = open(1)
local all, count = n.grants > 0 and call('HGETALL', n.H) or {}, 0
for i = 1, #all, 2 do
  local holder = string.match(all[i], '^g:(.*)$')
  local g = holder and readGrant(all[i + 1])
  if g and (token == '' or g.token == token) then
    count = count + 1
    if brk then
      -- Its holder is told so for as long as it may believe to hold.
      call('ZADD', n.B, g.token, g.token)
      call('ZREMRANGEBYRANK', n.B, 0, -1001)
      call('PEXPIRE', n.B, millis(math.max(g.deadline - now, g.longest) + 60000000))
      take(n, holder)
    elseif g.revoked ~= '1' then
      g.revoked = '1'
      call('HSET', n.H, all[i], writeGrant(g))
    end
  end
end
if brk and count > 0 then
  save(n)
  wake(n, true)
end
if count > 0 then tell(n) end
return {count}
