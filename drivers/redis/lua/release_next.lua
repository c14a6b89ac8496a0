-- A hand-over within a client: the attempt of its first waiter came along, who is
-- the head of the line, alive, and may have what is released, and there was no
-- room beside that. Both in one, before the functions are made that this does
-- not need. In all other cases nothing is done here. A number that is an argument
-- of a command keeps its digits; one in a text does not.
if #ARGV > 3 then
  local call, token, holder, id, ttl, delay = redis.call, ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
  local v = call('HMGET', KEYS[1], 'gn', 'c', 'd', 'x', 'n', 'e', 'p', 'g:' .. ARGV[1])
  local head = call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  local clock = call('TIME')
  local now = clock[1] * 1000000 + clock[2]
  local function isIt()
    if v[1] ~= ARGV[8] or (v[5] or '1') ~= ARGV[8] or not v[7] or not v[8] or string.sub(v[8], 1, #token + 1) ~= token .. '\n' then
      return false -- there is room besides, or this is not the holder
    end
    if v[3] + 0 < now or v[3] - v[4] > now or (v[2] or 0) + 0 >= now then return false end -- over, a clock set back, or closed
    if head[1] ~= holder or ARGV[7] ~= '0' or ARGV[18] ~= '' then return false end
    local mode, set, of = string.match(call('HGET', KEYS[4], holder) or '', '^(%d)\n%d+\n[^\n]*\n[^\n]*\n([^\n]*)\n(.*)$')
    return mode == '0' and set == '' and of == id and (call('ZSCORE', KEYS[3], holder) or 0) + 0 >= now and
      call('HEXISTS', KEYS[7], holder .. '\n' .. id) == 0
  end
  if isIt() then
    local since, keep = clock[1] .. string.sub('00000' .. clock[2], -6), ARGV[15] / 1000
    local new, last = since, call('SET', KEYS[5], since, 'PX', keep, 'GET')
    if last and (tonumber(last) or 0) >= now then
      local ahead = tonumber(last) + 1 - now
      new = string.format('%.0f', now + ahead)
      call('SET', KEYS[5], new, 'PX', math.ceil(keep + ahead / 1000))
    end
    call('ZREM', KEYS[2], holder)
    call('ZREM', KEYS[3], holder)
    call('HDEL', KEYS[4], holder)
    call('HDEL', KEYS[1], 'g:' .. ARGV[1], 'k:' .. ARGV[1], 'v:' .. ARGV[1])
    local first, longest, ends = now + ttl, ttl + 0, math.max(v[6] or 0, now + ttl + delay)
    if v[1] ~= '1' then first, longest = math.min(first, v[3]), math.max(longest, v[4]) end
    call('HSET', KEYS[1], 'd', first, 'x', longest, 'm', '0', 'e', ends, 'p', math.max(v[7], head[2]), 'g:' .. holder,
      new .. '\n\n' .. ttl .. '\n' .. since .. '\n' .. delay .. '\n00\n' .. ttl .. '\n' .. id)
    if ARGV[12] ~= '' then call('HSET', KEYS[1], 'k:' .. holder, ARGV[12]) end
    if ARGV[19] ~= '' then call('HSET', KEYS[1], 'v:' .. holder, ARGV[19]) end
    call('PEXPIRE', KEYS[1], math.ceil((math.max(ends, now + $LIVE) - now) / 1000) + 1000)
    if call('PUBSUB', 'NUMSUB', ARGV[20])[2] > 0 then call('PUBLISH', ARGV[20], KEYS[1]) end
    return {$RELEASED, $GRANTED, '0', new}
  end
end
