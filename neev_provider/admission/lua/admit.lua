-- Let a request in and take all that it may use, or nothing and say why.
--
-- ARGV: 3 key id, 4 digest, 5 model, 6 lease, 7 ms that the lease lives, 8 tokens to take, 9 prompt tokens,
--   10 nano-USD of the prompt ('' if the model is unpriced), 11 nano-USD per token of max_tokens, 12 max_tokens,
--   13 nano-USD that the gateway's own budget leaves ('' if it has none), 14 the lease under which another process has
--   let this same request in, to be taken over ('' if none has)
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

local subjects = {{whose = 'key', suffix = ':' .. ARGV[3], record = key, counted_in = KEY_SECOND}}
if team then
  subjects[2] = {whose = 'team', suffix = '', record = team, counted_in = TEAM_SECOND}
end

-- Handed over: what the other lease took is given back before it is taken anew, all but the request's count, which
-- stays. If this is refused, the request has ended: it cost nothing so far.
local handed_over
if ARGV[14] ~= '' then
  local packed = call('HGET', prefix .. 'leases', ARGV[14])
  local lease = packed and cmsgpack.unpack(packed)
  if lease and lease[KEY] == ARGV[3] then
    handed_over = lease
    local close_lease = ledger()
    close_lease(lease, 0, 0)
    call('HDEL', prefix .. 'leases', ARGV[14])
    call('ZREM', prefix .. 'due', ARGV[14])
  end
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
  subject.account = account_now(subject.suffix, r[PERIOD], r[ANCHOR])
  if r[PARALLEL] and subject.account.parallel >= r[PARALLEL] then
    return refuse('parallel', subject.whose, nil, r[PARALLEL])
  end
end

-- The last 60 seconds
local tokens = tonumber(ARGV[8])

local function all_buckets()
  local fields = {}
  for s = 0, BUCKETS - 1 do
    fields[#fields + 1] = 'b' .. s
  end
  return fields
end

-- The clock was set back by more than a minute: nobody knows any more when in the last minute what was counted came.
-- It counts as come now, so that no second window opens, and is over in a minute.
local function come_now(account)
  call('HDEL', account.name, unpack(all_buckets()))
  account.last, account.tokens = second, min(account.tokens, SHARE - 1)
  account.bucket = account.requests * SHARE + account.tokens
  keep(account, 'b' .. second % BUCKETS, account.bucket)
end

-- What a subject had counted by now, to be written if the request is let in.
local function minute_of(account)
  if account.last - second >= BUCKETS then
    come_now(account)
  end
  local last, at = account.last, second
  if at < last then -- the clock went back a little
    at = last
    account.bucket = tonumber(call('HGET', account.name, 'b' .. at % BUCKETS)) or 0
  end
  if at == last then
    return {at = at, bucket = account.bucket, requests = account.requests, tokens = account.tokens}
  end
  -- The buckets since then hold seconds that have left the window.
  local between, gone = {}, {}
  if at - last >= BUCKETS then
    return {at = at, bucket = 0, requests = 0, tokens = 0, gone = last > 0 and all_buckets() or nil}
  end
  local requests, tokens = floor(account.bucket / SHARE), account.bucket % SHARE
  for s = last + 1, at - 1 do
    between[#between + 1] = 'b' .. s % BUCKETS
  end
  if between[1] then
    local buckets = call('HMGET', account.name, unpack(between))
    for i = 1, #between do
      if buckets[i] then
        requests, tokens = requests + floor(buckets[i] / SHARE), tokens + buckets[i] % SHARE
        gone[#gone + 1] = between[i]
      end
    end
  end
  return {at = at, bucket = 0, requests = account.requests - requests, tokens = account.tokens - tokens, gone = gone}
end

-- Milliseconds until `needed` requests, or else tokens, of the oldest have left the window.
local function wait_for(subject, is_requests, needed)
  local last, at = subject.account.last, subject.minute.at
  if at - last >= BUCKETS then
    return BUCKETS * 1000
  end
  local fields = {}
  -- The buckets of the seconds since the last request hold what has left the window.
  for s = at - BUCKETS + 1, last do
    fields[#fields + 1] = 'b' .. s % BUCKETS
  end
  local buckets, freed = call('HMGET', subject.account.name, unpack(fields)), 0
  for i = 1, #fields do
    local bucket = tonumber(buckets[i]) or 0
    freed = freed + (is_requests and floor(bucket / SHARE) or bucket % SHARE)
    if freed >= needed then
      return (at - BUCKETS + i + BUCKETS) * 1000 - now
    end
  end
  return BUCKETS * 1000
end

for _, subject in ipairs(subjects) do
  if subject.record[RPM] or subject.record[TPM] then
    subject.minute = minute_of(subject.account)
    local counted_in = handed_over and handed_over[subject.counted_in] or 0
    subject.counts = counted_in > 0 and subject.minute.at - counted_in < BUCKETS and 0 or 1
  end
end
for _, subject in ipairs(subjects) do
  local limit, minute = subject.record[RPM], subject.minute
  local requests = minute and minute.requests + subject.counts
  if limit and requests > limit then
    return refuse('requests', subject.whose, wait_for(subject, true, requests - limit), limit)
  end
end
for _, subject in ipairs(subjects) do
  local limit, minute = subject.record[TPM], subject.minute
  if limit and minute.tokens + tokens > limit then
    if tokens > limit then
      return refuse('too_many_tokens', subject.whose, nil, limit, tokens)
    end
    return refuse('tokens', subject.whose, wait_for(subject, false, minute.tokens + tokens - limit), limit, tokens)
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
  local budget, account = subject.record[BUDGET], subject.account
  if budget and least > 0 then
    local room = budget - account.spent - account.held
    if room < least then
      -- Calls in flight give back what they do not use; what is spent comes back with the next window.
      local is_spent = budget - account.spent < least
      local retry = nil
      if not is_spent then
        retry = 1000
      elseif account.reset < NEVER then
        retry = account.reset - now
      end
      return refuse('budget', subject.whose, retry, budget, account.spent, account.held,
        account.reset < NEVER and account.reset or '', is_spent and '1' or '0')
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
  local account, minute = subject.account, subject.minute
  account.held, account.parallel = account.held + held, account.parallel + 1
  if minute then
    if minute.gone and minute.gone[1] then
      call('HDEL', account.name, unpack(minute.gone))
    end
    local taken = min(tokens, SHARE - 1 - minute.bucket % SHARE)
    local counts = subject.counts
    account.last, account.requests, account.tokens = minute.at, minute.requests + counts, minute.tokens + taken
    keep(account, 'b' .. minute.at % BUCKETS, minute.bucket + counts * SHARE + taken)
  else
    keep(account)
  end
end
call('HSET', prefix .. 'leases', lease_id, cmsgpack.pack({
  ARGV[3], now, tokens, held, subjects[1].account.window, team and subjects[2].account.window or '',
  subjects[1].minute and subjects[1].minute.at or 0, team and subjects[2].minute and subjects[2].minute.at or 0,
  tonumber(ARGV[9]), fixed, model,
}))
call('ZADD', prefix .. 'due', now + ARGV[7], lease_id)

local k, t = subjects[1], subjects[2] or {record = {}}
local function room(subject, limit, used)
  local bound = subject.record[limit]
  return bound and bound - subject.account[used] or 0
end
-- Packed, because Redis takes half a microsecond to send each number by itself.
return {'ok', expired, expired_nanos, cmsgpack.pack({key[WHO], team and team[MODELS] or '', cap, held, now, {
  k.record[RPM] or -1, room(k, RPM, 'requests'), k.record[TPM] or -1, room(k, TPM, 'tokens'), k.record[PARALLEL] or -1,
  t.record[RPM] or -1, room(t, RPM, 'requests'), t.record[TPM] or -1, room(t, TPM, 'tokens'), t.record[PARALLEL] or -1,
}, left and left - held or -1})}
