-- The common case before all else, and before the functions that it does not
-- need are made: nobody holds, awaits or has cancelled anything on one name.
-- What it leaves out of the state and of the grant is what open and readGrant
-- take for granted. A number that is an argument of a command keeps its
-- digits; one in a text does not.
if #KEYS == $KINDS and redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[7]) == 0 then
  local clock = redis.call('TIME')
  local now = clock[1] * 1000000 + clock[2]
  local since = clock[1] .. string.sub('00000' .. clock[2], -6)
  local token, keep = since, ARGV[13] / 1000
  local last = redis.call('SET', KEYS[5], token, 'PX', keep, 'GET')
  if last and (tonumber(last) or 0) >= now then
    local ahead = tonumber(last) + 1 - now
    token = string.format('%.0f', now + ahead)
    redis.call('SET', KEYS[5], token, 'PX', math.ceil(keep + ahead / 1000))
  end
  local record = token .. '\n\n' .. ARGV[3] .. '\n' .. since .. '\n' .. ARGV[4] .. '\n00\n' .. ARGV[3] .. '\n' .. ARGV[2]
  if ARGV[4] == '0' and ARGV[5] == '0' and ARGV[6] == '1' then
    redis.call('HSET', KEYS[1], 'gn', '1', 'd', now + ARGV[3], 'x', ARGV[3], 'g:' .. ARGV[1], record)
  else
    redis.call('HSET', KEYS[1], 'gn', '1', 'd', now + ARGV[3], 'x', ARGV[3], 'g:' .. ARGV[1], record,
      'n', ARGV[6], 'm', ARGV[5], 'e', now + ARGV[3] + ARGV[4])
  end
  if ARGV[10] ~= '' then redis.call('HSET', KEYS[1], 'k:' .. ARGV[1], ARGV[10]) end
  if ARGV[17] ~= '' then redis.call('HSET', KEYS[1], 'v:' .. ARGV[1], ARGV[17]) end
  redis.call('PEXPIRE', KEYS[1], math.ceil((ARGV[3] + ARGV[4]) / 1000) + 1000)
  if redis.call('PUBSUB', 'NUMSUB', ARGV[18])[2] > 0 then redis.call('PUBLISH', ARGV[18], KEYS[1]) end
  return {$GRANTED, '0', token}
end
