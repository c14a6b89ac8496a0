-- One attempt for all names of a request. Returns {GRANTED, resumed, TOKEN...},
-- {QUEUED, NUMBER, position, recheck, code} or {one of the refusals}.
local holder, id, ttl, delay = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local mode, permits = ARGV[5], tonumber(ARGV[6])
local queue, resume = ARGV[7] == '1', ARGV[8] == '1'
local place, code = string.match(ARGV[9], '^(%d+)%.?(%x*)$')
local meta = ARGV[10]
place = tonumber(place)
local channel, word, keep = ARGV[11], ARGV[12], tonumber(ARGV[13])
local client, number, set, value = ARGV[14], tonumber(ARGV[15]), ARGV[16], ARGV[17]

-- The Cancel of a request may overtake it: then it comes too late.
local cancelled = call('HGET', KEYS[7], holder .. '\n' .. id)
if cancelled then
  local by, at = string.match(cancelled, '^(%w+) (%d+)$')
  if by == client and number < tonumber(at) then return {CANCELLED} end
end

local names, held = {}, 0
for i = 1, #KEYS / $KINDS do
  local n = open(i)
  names[i] = n
  if n.grants > 0 then n.g = readGrant(call('HGET', n.H, 'g:' .. holder)) end
  if n.g then held = held + 1 end
  if n.head then n.w = readWaiter(call('HGET', n.W, holder)) end
end

if held > 0 then -- a repeat, or a Resume
  for _, n in ipairs(names) do
    if n.g and n.g.id ~= id and not resume then return {ALREADY_HELD} end
  end
  if held < #names then return {NOT_HELD} end
  for _, n in ipairs(names) do
    if n.permits ~= permits or n.mode ~= mode then return {CONFLICT, n.permits, n.mode} end
    if n.g.revoked == '1' then return {REVOKED} end
  end
  local reply = {GRANTED, names[1].g.id ~= id and '1' or names[1].g.resumed}
  for i, n in ipairs(names) do
    if n.g.id ~= id then
      n.g.id, n.g.delay, n.g.resumed = id, delay, '1'
      call('HSET', n.H, 'k:' .. holder, meta, 'v:' .. holder, value)
      extend(n, holder, n.g, ttl)
      tell(n)
    else
      extend(n, holder, n.g, ttl)
    end
    reply[i + 2] = n.g.token
  end
  return reply
end

local inLine = false
for _, n in ipairs(names) do
  if n.w then
    if n.w.set ~= set or n.w.id ~= id and not resume then return {ALREADY_HELD} end
    if n.permits ~= permits or n.w.mode ~= mode then return {CONFLICT, n.permits, n.w.mode} end
    inLine = true
  elseif n.permits ~= permits and (n.grants > 0 or n.head) then
    return {CONFLICT, n.permits, n.mode}
  end
end

-- mine reports whether it is this request's turn on all names.
local function mine()
  for _, n in ipairs(names) do
    if n.head and n.head ~= holder or not isOpen(n) or not fits(n, mode) then return false end
  end
  return true
end

local function grant()
  local reply = {GRANTED, '0'}
  for i, n in ipairs(names) do
    local last = lastIssued(n)
    local token = math.max(last + 1, now)
    record(n, token, keep)
    n.passed = n.passed or last
    if n.head == holder then
      n.passed = math.max(n.passed, tonumber(call('ZSCORE', n.Q, holder)))
      leave(n, {holder})
    end
    local g = {
      token = int(token), deadline = now + ttl, longest = ttl, since = int(now),
      delay = delay, resumed = '0', revoked = '0', ttl = ttl, id = id,
    }
    n.first = n.grants == 0 and g.deadline or math.min(n.first, g.deadline)
    n.longest = n.grants == 0 and ttl or math.max(n.longest, ttl)
    n.grants, n.mode, n.permits = n.grants + 1, mode, permits
    n.ends = math.max(n.ends, g.deadline + delay)
    call('HSET', n.H, 'g:' .. holder, writeGrant(g))
    if meta ~= '' then call('HSET', n.H, 'k:' .. holder, meta) end
    if value ~= '' then call('HSET', n.H, 'v:' .. holder, value) end
    save(n)
    tell(n)
    wake(n, true) -- there may be room for the next, too
    reply[i + 2] = g.token
  end
  return reply
end

if mine() then return grant() end
if not queue then return {HELD} end

-- seal returns the code of a place: with a secret of the name, made when
-- somebody first waits and gone when the name is free, and for this request.
local secret = call('HGET', names[1].H, 's')
local function seal(at)
  if not secret then
    secret = redis.sha1hex(client .. number)
    call('HSET', names[1].H, 's', secret)
  end
  return string.sub(redis.sha1hex(secret .. int(at) .. '\n' .. set .. '\n' .. holder .. '\n' .. id), 1, 16)
end

-- The place: the one it has, or the one that its ticket names unless the ticket
-- is not from here or somebody behind it was granted since, or a new one at the
-- end.
if place > 0 and not inLine and not (secret and seal(place) == code) then place = 0 end
local last = 0
for _, n in ipairs(names) do
  n.last = lastIssued(n)
  n.passed = n.passed or n.last
  last = math.max(last, n.last)
  local score = n.w and tonumber(call('ZSCORE', n.Q, holder) or nil)
  if score then place = score end
end
for _, n in ipairs(names) do
  if place <= n.passed then place = 0 end
end
if place > math.max(last, now) then place = 0 end -- nobody issued that
if not inLine then
  for _, n in ipairs(names) do
    if call('ZCARD', n.Q) >= MAX_WAITERS then return {LIMIT} end
  end
end
if place == 0 then place = math.max(last + 1, now) end
for _, n in ipairs(names) do
  if place > n.last then record(n, place, keep) end
  call('ZADD', n.Q, place, holder)
  call('ZADD', n.L, now + LIVE, holder)
  local w = {mode = mode, since = n.w and n.w.since or int(now), channel = channel, word = word, set = set, id = id}
  call('HSET', n.W, holder, writeWaiter(w))
  local life = millis(LIVE + 1000000)
  call('PEXPIRE', n.Q, life)
  call('PEXPIRE', n.L, life)
  call('PEXPIRE', n.W, life)
  readHead(n)
  n.permits = permits
  save(n)
  if not n.w then tell(n) end
end
if mine() then return grant() end -- it came back to the head of a line

-- When to look again, should nobody call: the first two of the line when the
-- name may come free, and twice as often as others. The second looks when a head
-- that was called has not answered, and the head before that is said of it.
local position, recheck = 0, PERIOD
for _, n in ipairs(names) do
  local rank = call('ZRANK', n.Q, holder)
  position = math.max(position, rank + 1)
  local free = 0
  if not isOpen(n) then free = n.closed end
  if not fits(n, mode) then free = math.max(free, n.first) end
  if rank > 0 then wake(n, false) end
  if rank <= 1 then
    recheck = math.min(recheck, PERIOD / 2)
    if free > 0 then
      recheck = math.min(recheck, free - now + 1000)
    elseif rank == 1 then
      recheck = math.min(recheck, tonumber(call('ZSCORE', n.L, n.head) or 0) - now + 1000)
    end
  end
end
return {QUEUED, int(place), position, int(math.max(recheck, 1000)), seal(place)}
