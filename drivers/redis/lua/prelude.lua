-- What all scripts begin with. KEYS has these keys for each name, see keys.go:
--   H  hash    the state: scalars, g:HOLDER for each grant, k:HOLDER its metadata,
--              v:HOLDER its value
--   Q  zset    the line: holders by their places' numbers
--   L  zset    until when each waiter counts as alive
--   W  hash    a record for each waiter
--   F  string  the last number issued, for a token or a place
--   B  zset    tokens of broken grants
--   X  hash    cancelled requests, with the client and the number of the Cancel
--   Y  zset    the same, by when they were cancelled
-- All times are microseconds of the server's clock. Lua's numbers are exact
-- up to 2^53, which the clock reaches in the year 2255. They are so as arguments
-- of commands, too; in texts they are written with int, because tostring keeps
-- 14 digits only.
local call = redis.call
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]

local LIVE, GRACE, PERIOD, CANCELLED_LIFE = $LIVE, $GRACE, $PERIOD, $CANCELLED_LIFE
local MAX_SHARED, MAX_WAITERS, MAX_DELAY = $MAX_SHARED, $MAX_WAITERS, $MAX_DELAY
local $STATUS_NAMES = $STATUS_VALUES

local function int(n) return string.format('%.0f', n) end

-- millis rounds up, for the time to live of a key.
local function millis(n) return math.ceil(n / 1000) end

-- A grant: token, deadline (empty: since and the TTL), longest TTL given, since,
-- lock-delay, resumed and revoked, TTL, request id. Neither ids nor holders hold a newline.
local function readGrant(v)
  if not v then return nil end
  local token, deadline, longest, since, delay, resumed, revoked, ttl, id =
    string.match(v, '^(%d+)\n(%d*)\n(%d+)\n(%d+)\n(%d+)\n(%d)(%d)\n(%d+)\n(.*)$')
  return {
    token = token, deadline = tonumber(deadline) or since + ttl, longest = tonumber(longest), since = since,
    delay = tonumber(delay), resumed = resumed, revoked = revoked, ttl = tonumber(ttl), id = id,
  }
end

local function writeGrant(g)
  return g.token .. '\n' .. int(g.deadline) .. '\n' .. int(g.longest) .. '\n' .. g.since .. '\n' .. int(g.delay) ..
    '\n' .. g.resumed .. g.revoked .. '\n' .. int(g.ttl) .. '\n' .. g.id
end

-- A waiter: mode, since, where to wake it (a channel and what to say there),
-- which names it waits for together, request id.
local function readWaiter(v)
  if not v then return nil end
  local mode, since, channel, word, set, id = string.match(v, '^(%d)\n(%d+)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
  return {mode = mode, since = since, channel = channel, word = word, set = set, id = id}
end

local function writeWaiter(w)
  return w.mode .. '\n' .. w.since .. '\n' .. w.channel .. '\n' .. w.word .. '\n' .. w.set .. '\n' .. w.id
end

-- drop deletes fields or members, a bounded number with each call: unpack
-- lays them on Lua's stack.
local function drop(command, key, list)
  for i = 1, #list, 1000 do call(command, key, unpack(list, i, math.min(i + 999, #list))) end
end

-- save writes the scalars of a name, or deletes a state that says nothing.
local function save(n)
  if n.grants == 0 and n.closed < now and not n.head then
    call('DEL', n.H)
    return
  end
  call('HSET', n.H, 'gn', n.grants, 'd', n.first, 'x', n.longest, 'c', n.closed,
    'n', n.permits, 'm', n.mode, 'e', n.ends)
  if n.passed then call('HSET', n.H, 'p', n.passed) end
  call('PEXPIRE', n.H, millis(math.max(n.ends, n.closed, n.head and now + LIVE or 0) - now + 1000000))
end

-- tell says to those who watch, if anybody does at this server, that the state
-- of a name has changed. The channel is every script's last argument.
local function tell(n)
  local channel = ARGV[#ARGV]
  if call('PUBSUB', 'NUMSUB', channel)[2] > 0 then call('PUBLISH', channel, n.H) end
end

-- reap ends the leases that have run out: those whose deadline is before now.
-- first is the earliest deadline or something before it. A deadline further
-- ahead than the longest TTL means that the clock was set back; the lease then
-- has that TTL from now on, which is never too short.
local function reap(n)
  if n.grants == 0 or n.first >= now and n.first <= now + n.longest then return end
  local all, gone, ended, first = call('HGETALL', n.H), {}, 0, nil
  for i = 1, #all, 2 do
    local holder = string.match(all[i], '^g:(.*)$')
    if holder then
      local g = readGrant(all[i + 1])
      if g.deadline < now then
        ended = ended + 1
        gone[3 * ended - 2], gone[3 * ended - 1], gone[3 * ended] = all[i], 'k:' .. holder, 'v:' .. holder
        if g.delay > 0 then n.closed = math.max(n.closed, g.deadline + g.delay) end
      else
        if g.deadline > now + g.longest then
          g.deadline = now + g.longest
          call('HSET', n.H, all[i], writeGrant(g))
        end
        first = math.min(first or g.deadline, g.deadline)
      end
    end
  end
  drop('HDEL', n.H, gone)
  n.grants = n.grants - ended
  n.first = first or 0
  save(n)
  if ended > 0 then tell(n) end
end

local function readHead(n) n.head = call('ZRANGE', n.Q, 0, 0)[1] end

-- leave takes waiters out of the line.
local function leave(n, holders)
  drop('ZREM', n.Q, holders)
  drop('ZREM', n.L, holders)
  drop('HDEL', n.W, holders)
  readHead(n)
end

-- open reads the name at position i of KEYS, and ends what is over.
local function open(i)
  local k = (i - 1) * $KINDS
  local n = {
    H = KEYS[k + 1], Q = KEYS[k + 2], L = KEYS[k + 3], W = KEYS[k + 4], F = KEYS[k + 5], B = KEYS[k + 6],
    X = KEYS[k + 7], Y = KEYS[k + 8],
  }
  local v = call('HMGET', n.H, 'gn', 'd', 'x', 'c', 'n', 'm', 'p', 'e')
  n.grants, n.first, n.longest = tonumber(v[1] or 0), tonumber(v[2] or 0), tonumber(v[3] or 0)
  n.closed = math.min(tonumber(v[4] or 0), now + MAX_DELAY)
  n.permits, n.mode = tonumber(v[5] or 1), v[6] or '0'
  n.passed, n.ends = tonumber(v[7] or nil), tonumber(v[8] or n.first)
  readHead(n)
  while n.head do
    local dead = call('ZRANGEBYSCORE', n.L, '-inf', '(' .. int(now), 'LIMIT', 0, 1000)
    if #dead == 0 then break end
    leave(n, dead)
    if not n.head then save(n) end
    tell(n)
  end
  reap(n)
  return n
end

local function isOpen(n) return n.closed < now end

-- fits reports whether one more grant can be live beside those there are.
local function fits(n, mode)
  if n.grants == 0 then return true end
  if n.permits > 1 then return n.grants < n.permits end
  return mode == '1' and n.mode == '1' and n.grants < MAX_SHARED
end

local function lastIssued(n) return tonumber(call('GET', n.F) or 0) or 0 end

-- record notes a number as issued. It is kept for as long as the client says,
-- and while it is ahead of the clock: afterwards the clock is past it.
local function record(n, number, keep)
  call('SET', n.F, number, 'PX', millis(math.max(number - now, 0) + keep))
end

-- wake calls the head of the line if there is room for it. From then on it
-- has GRACE to answer. It is called once, unless again is given.
local function wake(n, again)
  if not n.head or not isOpen(n) then return end
  local w = readWaiter(call('HGET', n.W, n.head))
  if not w then -- evicted: it comes back with its ticket
    leave(n, {n.head})
    return
  end
  if not fits(n, w.mode) then return end
  if not again and tonumber(call('ZSCORE', n.L, n.head) or 0) <= now + GRACE then return end
  call('ZADD', n.L, now + GRACE, n.head)
  call('PUBLISH', w.channel, w.word)
end

-- take ends one grant.
local function take(n, holder)
  call('HDEL', n.H, 'g:' .. holder, 'k:' .. holder, 'v:' .. holder)
  n.grants = n.grants - 1
  if n.grants == 0 then n.first = 0 end
end

-- extend gives a grant a TTL from now on. Its deadline never comes earlier by
-- that: a holder that misses the reply still counts on the old one.
local function extend(n, holder, g, ttl)
  g.ttl, g.longest = ttl, math.max(g.longest, ttl)
  g.deadline = math.max(g.deadline, now + ttl)
  if n.grants == 1 then n.first = g.deadline end
  n.longest = math.max(n.longest, ttl)
  n.ends = math.max(n.ends, g.deadline + g.delay)
  call('HSET', n.H, 'g:' .. holder, writeGrant(g))
  save(n)
end
