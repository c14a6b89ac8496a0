-- The common case before all else, and before the functions that it does not
-- need are made: nobody holds, awaits or has cancelled anything on one name.
if #KEYS == $KINDS and redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[7]) == 0 then
  local clock = redis.call('TIME')
  local now = clock[1] * 1000000 + clock[2]
  local format, last = string.format, tonumber(redis.call('GET', KEYS[5]) or 0) or 0
  local token, ttl, delay, keep = now, ARGV[3] + 0, ARGV[4] + 0, ARGV[13] + 0
  if last >= now then
    token = last + 1
    keep = keep + token - now
  end
  token = format('%.0f', token)
  local ends = now + ttl + delay
  local deadline = format('%.0f', now + ttl)
  local since = format('%.0f', now)
  redis.call('SET', KEYS[5], token, 'PX', format('%.0f', keep / 1000 + 1))
  redis.call('HSET', KEYS[1], 'gn', '1', 'd', deadline, 'x', ARGV[3], 'c', '0', 'n', ARGV[6], 'm', ARGV[5],
    'p', format('%.0f', last), 'e', format('%.0f', ends), 'g:' .. ARGV[1],
    token .. '\n' .. deadline .. '\n' .. ARGV[3] .. '\n' .. since .. '\n' .. ARGV[4] .. '\n00\n' .. ARGV[3] .. '\n' .. ARGV[2])
  if ARGV[10] ~= '' then redis.call('HSET', KEYS[1], 'k:' .. ARGV[1], ARGV[10]) end
  redis.call('PEXPIRE', KEYS[1], format('%.0f', (ends - now) / 1000 + 1000))
  return {$GRANTED, '0', token}
end
