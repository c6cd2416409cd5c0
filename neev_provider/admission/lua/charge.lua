-- Charges one event. Shared by settle.lua and replay.lua. `at_arg` is where its ten arguments begin: number, lease,
-- key id, ms of its admission, prompt tokens, completion tokens, nano-USD, 1 if estimated, characters, model ('' if
-- nothing was produced). Returns the nano-USD that were charged now.

local EVENT = 10
local SEEN_TTL = 35 * 86400
local SKEW_MS = 60000 -- the time of a call that was let in without the store is of another clock
local close_lease, add_to_day, charge_all = ledger()

-- Who was made anew under a name since a call was let in does not owe what it did cost.
local function forget_who_is_new(lease)
  for field, name in pairs({[KEY_WINDOW] = 'key:' .. lease[KEY], [TEAM_WINDOW] = 'team'}) do
    local created = tonumber(call('HGET', prefix .. name, 'created'))
    if created and created > lease[AT] then
      lease[field] = ''
    end
  end
end

local function settle(at_arg)
  local id, key_id, at = ARGV[at_arg + 1], ARGV[at_arg + 2], tonumber(ARGV[at_arg + 3])
  local prompt, completion = tonumber(ARGV[at_arg + 4]), tonumber(ARGV[at_arg + 5])
  local nanos, estimated = tonumber(ARGV[at_arg + 6]), tonumber(ARGV[at_arg + 7])
  local characters, model = tonumber(ARGV[at_arg + 8]), ARGV[at_arg + 9]
  local requests = model == '' and 0 or 1

  local packed = call('HGET', prefix .. 'leases', id)
  if packed then
    local lease = cmsgpack.unpack(packed)
    close_lease(lease, prompt + completion, nanos)
    call('HDEL', prefix .. 'leases', id)
    call('ZREM', prefix .. 'due', id)
    if requests == 1 then
      add_to_day(lease[AT], key_id, model, 1, prompt, completion, nanos, estimated, characters)
    end
    return nanos
  end

  packed = call('GET', prefix .. 'late:' .. id)
  if packed then
    -- It expired, and its prompt was charged under the name that was asked for: take that back.
    local lease = cmsgpack.unpack(packed)
    forget_who_is_new(lease)
    local already = lease[PROMPT_NANOS]
    charge_all(lease, nanos - already, 0, 0, prompt + completion - lease[PROMPT])
    add_to_day(lease[AT], key_id, lease[MODEL], -1, -lease[PROMPT], 0, -already, -1, 0)
    if requests == 1 then
      add_to_day(lease[AT], key_id, model, 1, prompt, completion, nanos, estimated, characters)
    end
    call('DEL', prefix .. 'late:' .. id)
    return nanos - already
  end

  if requests == 0 then
    return 0 -- never let in, and nothing was produced
  end
  -- Nothing is known of it: the store lost it, or was away when it was let in. It is charged all the same, though
  -- perhaps long after, so only to a budget's window that has not ended, and not to who was made anew since.
  for _, subject in ipairs({{':' .. key_id, 'key:' .. key_id}, {'', 'team'}}) do
    local record = call('HMGET', prefix .. subject[2], 'models', 'period', 'anchor', 'created')
    if record[1] and at + SKEW_MS >= (tonumber(record[4]) or 0) then
      local account = account_now(subject[1], record[2], record[3])
      -- What was spent before the window was changed counts in the present one (record.lua).
      local is_of_it = at >= (tonumber(record[3]) or 0)
      if not (is_of_it and has_ended(window_at(record[2], record[3], at), account.window)) then
        account.spent = account.spent + nanos
        keep(account)
      end
    end
  end
  add_to_day(at, key_id, model, 1, prompt, completion, nanos, estimated, characters)
  return nanos
end
