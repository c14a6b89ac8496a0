-- The common case: this is the only grant, nobody waits, no lock-delay runs.
-- A state without e was written by the short way of acquire and by nothing
-- since, so that there cannot be a line.
local v = redis.call('HMGET', KEYS[1], 'gn', 'c', 'd', 'e', 'g:' .. ARGV[1])
if v[1] == '1' and (v[2] or '0') == '0' and v[5] and string.sub(v[5], 1, #ARGV[2] + 1) == ARGV[2] .. '\n' and
  (not v[4] or redis.call('EXISTS', KEYS[2]) == 0) then
  local clock = redis.call('TIME')
  if v[3] + 0 >= clock[1] * 1000000 + clock[2] then
    redis.call('DEL', KEYS[1])
    if redis.call('PUBSUB', 'NUMSUB', ARGV[#ARGV])[2] > 0 then redis.call('PUBLISH', ARGV[#ARGV], KEYS[1]) end
    return {$RELEASED}
  end
end
