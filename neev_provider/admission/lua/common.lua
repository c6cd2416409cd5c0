-- What all scripts share. Each script is this text and its own after it.
--
-- A tag names an owner: a team, or a key without one. Everything that one admission touches is named
-- neev:{tag}:..., so it lies in one slot of a cluster. ARGV[1] is that prefix, ARGV[2] moves the clock (0 but in tests).
-- A subject is what limits apply to: the key (suffix ':<id>') and its team (suffix '').
--
--   key:<id>, team   records: secrets, limits, budget (hash; written by record.lua)
--   ids, audit       the owner's keys (set), and who changed what (stream)
--   use<suffix>      a: a subject's account, packed (account_of); b0..b60: its last minute by second, requests and
--                    tokens as one number (SHARE). One hash and few fields: each costs as much as all that is done
--                    with it
--   leases, due      open leases (hash) and when they expire (sorted set, ms)
--   untold           leases that a reader found expired, and what was charged for them, until a sweep tells the total
--   late:<lease>     a lease that expired, until its process settles it after all
--   seen:<process>   number of the process's last settle, so that none counts twice
--   day:<yyyymmdd>   spend of a day by key and model
--
-- Money is whole nano-USD. Lua's numbers are exact up to 2^53, nine million USD; no budget may be larger.

local call = redis.call
local floor, max, min = math.floor, math.max, math.min
local prefix = ARGV[1]
local clock = call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)
local moved = tonumber(ARGV[2])
if moved ~= 0 then -- by tests: so many ms ahead, or at a time of their own
  now = moved < 1e12 and now + moved or moved
end
local second = floor(now / 1000)

local BUCKETS = 61       -- any 60 s touch at most 61 whole seconds
local SHARE = 1e10       -- a bucket is requests * SHARE + tokens: exact to 400,000 requests in a second
local DAY_TTL = 400 * 86400
local LATE_TTL = 400 * 86400 -- a ledger's line may be replayed long after its lease has expired
local DAY_MS = 86400000
local NEVER = 9e15       -- when a budget's window ends that has no end

-- Redis takes and gives numbers exactly, as arguments and replies; only joining them to text would round them.
local function int(number)
  return string.format('%.0f', number)
end

-- Functions that most requests do without are made when they are needed: making one takes as long as reading a field.

-- Days since 1970 to a date of the Gregorian calendar, and back (H. Hinnant, chrono-compatible algorithms).
local function calendar()
  local function civil(days)
    local z = days + 719468
    local era = floor(z / 146097)
    local doe = z - era * 146097
    local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
    local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
    local mp = floor((5 * doy + 2) / 153)
    local month = mp < 10 and mp + 3 or mp - 9
    return yoe + era * 400 + (month <= 2 and 1 or 0), month, doy - floor((153 * mp + 2) / 5) + 1
  end

  local function first_of_month(year, month)
    local y = month <= 2 and year - 1 or year
    local era = floor(y / 400)
    local yoe = y - era * 400
    local doy = floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5)
    return era * 146097 + yoe * 365 + floor(yoe / 4) - floor(yoe / 100) + doy - 719468
  end
  return civil, first_of_month
end

local function day_name(ms)
  local civil = calendar()
  return prefix .. 'day:' .. string.format('%04d%02d%02d', civil(floor(ms / DAY_MS)))
end

-- The budget's window at a time: its id, and when the next begins (ms).
-- A period is '' (one window for ever), milliseconds from the anchor, or '<n>mo': calendar months, UTC.
local function window_at(period, anchor, at)
  if not period or period == '' then
    return 'total', NEVER
  end
  if string.sub(period, -2) == 'mo' then
    local months = tonumber(string.sub(period, 1, -3))
    local civil, first_of_month = calendar()
    local year, month = civil(floor(at / DAY_MS))
    local index = floor((year * 12 + month - 1) / months)
    local following = (index + 1) * months
    return 'mo' .. months .. ':' .. int(index),
      first_of_month(floor(following / 12), following % 12 + 1) * DAY_MS
  end
  local length, start = tonumber(period), tonumber(anchor) or 0
  local index = floor((at - start) / length)
  return int(start) .. '/' .. period .. ':' .. int(index), start + (index + 1) * length
end

-- Whether a stored window has ended: not if a clock went back.
local function has_ended(stored, current)
  if stored == current then
    return false
  end
  local kind, index = string.match(stored, '^(.*):(%-?%d+)$')
  local current_kind, current_index = string.match(current, '^(.*):(%-?%d+)$')
  return kind ~= current_kind or tonumber(index) < tonumber(current_index)
end

-- What a subject has used, with its bucket of a second. All zero, and window nil, if nothing is known of it.
local function account_of(suffix, bucket_of)
  local name = prefix .. 'use' .. suffix
  local stored = call('HMGET', name, 'a', 'b' .. bucket_of % BUCKETS)
  local window, reset, replaced, spent, held, parallel, last, requests, tokens
  if stored[1] then
    window, reset, replaced, spent, held, parallel, last, requests, tokens = cmsgpack.unpack(stored[1])
  end
  return {
    name = name,
    window = window,              -- the budget's
    reset = reset or 0,           -- when it ends, ms
    replaced = replaced or '',    -- windows that it replaced when the budget's duration was changed
    spent = spent or 0, held = held or 0, -- nano-USD
    parallel = parallel or 0,     -- open leases
    last = last or 0,             -- second of the last request that was counted
    requests = requests or 0, tokens = tokens or 0, -- in the minute that ended with it
    bucket = tonumber(stored[2]) or 0,
  }
end

-- Keep an account, and values of buckets.
local function keep(account, ...)
  call('HSET', account.name, 'a', cmsgpack.pack(
    account.window, account.reset, account.replaced, account.spent, account.held, account.parallel,
    account.last, account.requests, account.tokens), ...)
end

-- An account as it stands now: in a new window nothing is spent or held.
local function account_now(suffix, period, anchor)
  local account = account_of(suffix, second)
  if now >= account.reset then
    -- Most requests come within the window that is stored, and need not work out which it is.
    local window, reset = window_at(period, anchor, now)
    account.reset = reset
    if not account.window or has_ended(account.window, window) then
      account.window, account.replaced, account.spent, account.held = window, '', 0, 0
    end
  end
  return account
end

-- A lease's fields, as they are packed.
local KEY, AT, TOKENS, HELD, KEY_WINDOW, TEAM_WINDOW, KEY_SECOND, TEAM_SECOND, PROMPT, PROMPT_NANOS, MODEL =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11

local function ledger()
  -- Spend of a day, by key and model: requests, prompt and completion tokens, nano-USD, estimated ones, characters.
  local function add_to_day(at, id, model, requests, prompt, completion, nanos, estimated, characters)
    local name, field = day_name(at), id .. ' ' .. model
    local old = call('HGET', name, field)
    if old then
      local r, p, c, n, e, s = string.match(old, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
      requests, prompt, completion = requests + r, prompt + p, completion + c
      nanos, estimated, characters = nanos + n, estimated + e, characters + s
    end
    call('HSET', name, field, string.format('%.0f %.0f %.0f %.0f %.0f %.0f',
      requests, prompt, completion, nanos, estimated, characters))
    if not old then
      call('EXPIRE', name, DAY_TTL)
    end
  end

  -- Charge a subject, give back what was held for it, and put right the tokens that were taken in a second (0: none
  -- were). A budget's window that has ended is left as it was, and so is a second that has left the last minute.
  local function charge(suffix, window, nanos, held, leases, taken_in, tokens)
    local account = account_of(suffix, taken_in)
    if not account.window then
      return -- revoked meanwhile
    end
    account.parallel = max(0, account.parallel - leases)
    if window == account.window or string.find(account.replaced, ' ' .. window .. ' ', 1, true) then
      account.spent, account.held = account.spent + nanos, account.held - held
    end
    if taken_in == 0 or account.bucket == 0 or taken_in > account.last or account.last - taken_in >= BUCKETS then
      return keep(account)
    end
    local before = account.bucket % SHARE
    local after = min(max(0, before + tokens), SHARE - 1)
    account.tokens = account.tokens - before + after
    keep(account, 'b' .. taken_in % BUCKETS, account.bucket - before + after)
  end

  -- Charge everybody that a lease was taken from: nano-USD, and how many tokens more than before (fewer: negative).
  -- Who is gone has no window in it (record.lua).
  local function charge_all(lease, nanos, held, leases, tokens)
    if lease[KEY_WINDOW] ~= '' then
      charge(':' .. lease[KEY], lease[KEY_WINDOW], nanos, held, leases, lease[KEY_SECOND], tokens)
    end
    if lease[TEAM_WINDOW] ~= '' then
      charge('', lease[TEAM_WINDOW], nanos, held, leases, lease[TEAM_SECOND], tokens)
    end
  end

  -- Charge what a lease did cost, and give back the rest.
  local function close_lease(lease, tokens, nanos)
    charge_all(lease, nanos, lease[HELD], 1, tokens - lease[TOKENS])
  end

  return close_lease, add_to_day, charge_all
end

-- Charge the prompt of leases whose process has died; return how many they were and what was charged.
local function expire_leases(limit)
  local due = call('ZRANGEBYSCORE', prefix .. 'due', '-inf', now, 'LIMIT', 0, limit)
  if #due == 0 then
    return 0, 0
  end
  local close_lease, add_to_day = ledger()
  local nanos = 0
  for _, id in ipairs(due) do
    local packed = call('HGET', prefix .. 'leases', id)
    if packed then
      local lease = cmsgpack.unpack(packed)
      close_lease(lease, lease[PROMPT], lease[PROMPT_NANOS])
      add_to_day(lease[AT], lease[KEY], lease[MODEL], 1, lease[PROMPT], 0, lease[PROMPT_NANOS], 1, 0)
      nanos = nanos + lease[PROMPT_NANOS]
      call('SET', prefix .. 'late:' .. id, packed, 'EX', LATE_TTL)
      call('HDEL', prefix .. 'leases', id)
    end
    call('ZREM', prefix .. 'due', id)
  end
  return #due, nanos
end
