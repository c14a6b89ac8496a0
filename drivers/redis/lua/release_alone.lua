-- The common case: this is the only grant, nobody waits, no lock-delay runs.
if redis.call('EXISTS', KEYS[2]) == 0 then
  local v = redis.call('HMGET', KEYS[1], 'gn', 'c', 'd', 'g:' .. ARGV[1])
  local clock = redis.call('TIME')
  if v[1] == '1' and (v[2] or '0') == '0' and v[4] and v[3] + 0 >= clock[1] * 1000000 + clock[2] and
    string.sub(v[4], 1, #ARGV[2] + 1) == ARGV[2] .. '\n' then
    redis.call('DEL', KEYS[1])
    if redis.call('PUBSUB', 'NUMSUB', ARGV[3])[2] > 0 then redis.call('PUBLISH', ARGV[3], KEYS[1]) end
    return {$RELEASED}
  end
end
