-- Let a request in and take all that it may use, or nothing and say why.
--
-- ARGV: 3 key id, 4 digest, 5 model, 6 lease, 7 ms that the lease lives, 8 tokens to take, 9 prompt tokens,
--   10 nano-USD of the prompt ('' if the model is unpriced), 11 nano-USD per token of max_tokens, 12 max_tokens,
--   13 nano-USD that the gateway's own budget leaves ('' if it has none)
-- Returns {'ok', expired, nano-USD charged for them, packed: who, team's models, max_tokens, held, now, {rpm of the key
--     (-1: no limit), left, tpm, left, parallel, the same of the team}, nano-USD left (-1: no budget)}
--   or {'no', expired, nanos, code, whose, ms until a retry makes sense ('' if unknown), details ...}

local model, lease_id = ARGV[5], ARGV[6]
local key, team, why = identify(ARGV[3], ARGV[4], model)
if not key then
  return {'no', 0, 0, why}
end
local expired, expired_nanos = expire_leases(50)

local function refuse(code, whose, retry, ...)
  return {'no', expired, expired_nanos, code, whose, retry and max(0, retry) or '', ...}
end

local subjects = {{whose = 'key', suffix = ':' .. ARGV[3], record = key}}
if team then
  subjects[2] = {whose = 'team', suffix = '', record = team}
end

-- The model
local global_left = tonumber(ARGV[13])
local is_priced = ARGV[10] ~= ''
local has_budget = global_left ~= nil
for _, subject in ipairs(subjects) do
  if not subject.record.allows then
    return refuse('model_not_allowed', subject.whose)
  end
  has_budget = has_budget or subject.record[BUDGET]
end
if has_budget and not is_priced then
  return refuse('model_unpriced', '')
end

-- Parallel leases
for _, subject in ipairs(subjects) do
  local r = subject.record
  subject.use = usage_of(subject.suffix, r[PERIOD], r[ANCHOR], now)
  if r[PARALLEL] and subject.use.par >= r[PARALLEL] then
    return refuse('parallel', subject.whose, nil, r[PARALLEL])
  end
end

-- The last 60 seconds
local tokens = tonumber(ARGV[8])

local function read_window(subject)
  local name = prefix .. 'win' .. subject.suffix
  local slot = second % BUCKETS
  local stored = call('HMGET', name, 'last', 'r', 't', 'r' .. slot, 't' .. slot)
  local last = tonumber(stored[1])
  local at = second
  if last and last > second then -- the clock went back
    at, slot = last, last % BUCKETS
    stored = call('HMGET', name, 'last', 'r', 't', 'r' .. slot, 't' .. slot)
  end
  local w = {name = name, at = at, last = last, slot = slot, requests = 0, tokens = 0, slot_requests = 0, slot_tokens = 0}
  if not last or at - last >= BUCKETS then
    w.is_over = last
    return w
  end
  w.requests, w.tokens = tonumber(stored[2]), tonumber(stored[3])
  if at == last then
    w.slot_requests, w.slot_tokens = tonumber(stored[4]) or 0, tonumber(stored[5]) or 0
    return w
  end
  -- The buckets between hold seconds that have left the window. They are removed when the request is let in.
  local fields, gone = {}, {}
  for s = last + 1, at do
    fields[#fields + 1] = 'r' .. s % BUCKETS
    fields[#fields + 1] = 't' .. s % BUCKETS
  end
  local old = call('HMGET', name, unpack(fields))
  for i = 1, #fields, 2 do
    if old[i] then
      w.requests = w.requests - tonumber(old[i])
      gone[#gone + 1] = fields[i]
    end
    if old[i + 1] then
      w.tokens = w.tokens - tonumber(old[i + 1])
      gone[#gone + 1] = fields[i + 1]
    end
  end
  w.gone = gone
  return w
end

-- Milliseconds until `needed` of the oldest have left the window.
local function wait_for(w, letter, needed)
  if not w.last or w.is_over then
    return BUCKETS * 1000
  end
  local fields = {}
  -- The buckets of the seconds since the last request hold what has left the window.
  for s = w.at - BUCKETS + 1, w.last do
    fields[#fields + 1] = letter .. s % BUCKETS
  end
  local counts, freed = call('HMGET', w.name, unpack(fields)), 0
  for i = 1, #fields do
    freed = freed + (tonumber(counts[i]) or 0)
    if freed >= needed then
      return (w.at - BUCKETS + i + BUCKETS) * 1000 - now
    end
  end
  return BUCKETS * 1000
end

for _, subject in ipairs(subjects) do
  if subject.record[RPM] or subject.record[TPM] then
    subject.seconds = read_window(subject)
  end
end
for _, subject in ipairs(subjects) do
  local limit, w = subject.record[RPM], subject.seconds
  if limit and w.requests + 1 > limit then
    return refuse('requests', subject.whose, wait_for(w, 'r', w.requests + 1 - limit), limit)
  end
end
for _, subject in ipairs(subjects) do
  local limit, w = subject.record[TPM], subject.seconds
  if limit and w.tokens + tokens > limit then
    if tokens > limit then
      return refuse('too_many_tokens', subject.whose, nil, limit, tokens)
    end
    return refuse('tokens', subject.whose, wait_for(w, 't', w.tokens + tokens - limit), limit, tokens)
  end
end

-- Budgets: the whole cap if there is room for it, else as many tokens as there is.
local fixed, unit, cap = tonumber(ARGV[10]) or 0, tonumber(ARGV[11]) or 0, tonumber(ARGV[12])
local least = fixed + min(cap, 1) * unit -- the prompt and one token; what costs nothing needs no budget
local left = least > 0 and global_left or nil
if left and left < least then
  return refuse('budget', 'gateway', nil)
end
for _, subject in ipairs(subjects) do
  local budget, use = subject.record[BUDGET], subject.use
  if budget and least > 0 then
    local room = budget - use.spent - use.held
    if room < least then
      -- Calls in flight give back what they do not use; what is spent comes back with the next window.
      local is_spent = budget - use.spent < least
      local retry = nil
      if not is_spent then
        retry = 1000
      elseif use.reset then
        retry = use.reset - now
      end
      return refuse('budget', subject.whose, retry, budget, use.spent, use.held,
        use.reset and use.reset or '', is_spent and '1' or '0')
    end
    left = left and min(left, room) or room
  end
end
if left and unit > 0 then
  cap = min(cap, floor((left - fixed) / unit))
end
local held = is_priced and fixed + cap * unit or 0

-- Everything is there: take it.
for _, subject in ipairs(subjects) do
  local use, w = subject.use, subject.seconds
  if use.is_new then
    call('HSET', use.name, 'w', use.window, 'e', use.reset or NEVER, 'pw', '', 'spent', '0', 'held', held,
      'par', use.par + 1)
  else
    call('HSET', use.name, 'held', use.held + held, 'par', use.par + 1)
  end
  if w then
    if w.is_over then
      call('DEL', w.name)
    elseif w.gone and w.gone[1] then
      call('HDEL', w.name, unpack(w.gone))
    end
    w.requests, w.tokens = w.requests + 1, w.tokens + tokens
    call('HSET', w.name, 'last', w.at, 'r', w.requests, 't', w.tokens,
      'r' .. w.slot, w.slot_requests + 1, 't' .. w.slot, w.slot_tokens + tokens)
    if not w.last or w.is_over or floor(w.last / 30) ~= floor(w.at / 30) then
      call('EXPIRE', w.name, WINDOW_TTL)
    end
  end
end
call('HSET', prefix .. 'leases', lease_id, cmsgpack.pack({
  ARGV[3], now, tokens, held, subjects[1].use.window, team and subjects[2].use.window or '',
  subjects[1].seconds and subjects[1].seconds.at or 0, team and subjects[2].seconds and subjects[2].seconds.at or 0,
  tonumber(ARGV[9]), fixed, model,
}))
call('ZADD', prefix .. 'due', now + ARGV[7], lease_id)

local k, t = subjects[1], subjects[2] or {record = {}}
local function room(subject, limit, used)
  local bound = subject.record[limit]
  return bound and bound - subject.seconds[used] or 0
end
-- Packed, because Redis takes half a microsecond to send each number by itself.
return {'ok', expired, expired_nanos, cmsgpack.pack({key[WHO], team and team[MODELS] or '', cap, held, now, {
  k.record[RPM] or -1, room(k, RPM, 'requests'), k.record[TPM] or -1, room(k, TPM, 'tokens'), k.record[PARALLEL] or -1,
  t.record[RPM] or -1, room(t, RPM, 'requests'), t.record[TPM] or -1, room(t, TPM, 'tokens'), t.record[PARALLEL] or -1,
}, left and left - held or -1})}
