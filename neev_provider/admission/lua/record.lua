-- Change the record of a key or a team, with its line in the audit.
--
-- ARGV: 3 'create', 'update', 'rotate' or 'delete'; 4 suffix: ':<key id>', or '' for the team; 5 who; 6 what (JSON);
--   7 before when it must be done (ms), or ''; 8 how many fields are set, these with their values, then the fields
--   to remove.
--   '+<ms>' as the value of a time is that much from now.
-- Returns {'ok', subject (subject.lua; none if it is deleted)}, or {why nothing was done}: 'exists', 'absent',
-- 'no_team', 'has_keys', 'late', or 'too_many' old secrets.

local mode, suffix = ARGV[3], ARGV[4]
local is_key = suffix ~= ''
local name = prefix .. (is_key and 'key' .. suffix or 'team')
local ids = prefix .. 'ids'
local AUDIT_LENGTH = 500
local AUDIT_TTL = 400 * 86400
local MOST_OLD_SECRETS = 8
local TIMES = {anchor = true, old_until = true, created = true, updated = true, expires = true}

-- Calls in flight are not charged to whoever is made anew under this name: that account holds nothing for them.
local function let_go_of_leases()
  local leases, id = prefix .. 'leases', string.sub(suffix, 2)
  local all = call('HGETALL', leases)
  for i = 1, #all, 2 do
    local lease = cmsgpack.unpack(all[i + 1])
    if not is_key or lease[KEY] == id then
      lease[is_key and KEY_WINDOW or TEAM_WINDOW] = ''
      call('HSET', leases, all[i], cmsgpack.pack(lease))
    end
  end
end

local function note()
  local audit = prefix .. 'audit'
  call('XADD', audit, 'MAXLEN', '~', AUDIT_LENGTH, '*', 'at', now, 'by', ARGV[5], 'what', ARGV[6])
  if call('EXISTS', prefix .. 'team') == 0 and call('EXISTS', ids) == 0 then
    call('EXPIRE', audit, AUDIT_TTL)
  else
    call('PERSIST', audit)
  end
end

if ARGV[7] ~= '' and now >= tonumber(ARGV[7]) then
  return {'late'}
end
local exists = call('EXISTS', name) == 1
if mode == 'delete' then
  if not exists then
    return {'absent'}
  end
  if not is_key and call('EXISTS', ids) == 1 then
    return {'has_keys'}
  end
  call('DEL', name, prefix .. 'use' .. suffix)
  let_go_of_leases()
  if is_key then
    call('SREM', ids, string.sub(suffix, 2))
  end
  note()
  return {'ok'}
end

expire_untold() -- before anything is written: what is told of it below is as of now
if mode == 'create' and (exists or (not is_key and call('EXISTS', ids) == 1)) then
  return {'exists'}
end
if (mode == 'update' or mode == 'rotate') and not exists then
  return {'absent'}
end

local set, removed, values = {}, {}, {}
local count = tonumber(ARGV[8])
for i = 9, 8 + 2 * count, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  local later = TIMES[field] and string.match(value, '^%+(%d+)$')
  if later then
    value = now + later
  end
  set[#set + 1] = field
  set[#set + 1] = value
  values[field] = value
end
for i = 9 + 2 * count, #ARGV do
  removed[#removed + 1] = ARGV[i]
  values[ARGV[i]] = ''
end
-- A secret whose grace is not over stays good however often the next ones are replaced; without a grace all old ones end.
if mode == 'rotate' and values.old_until ~= '' then
  local before = call('HMGET', name, 'secret', 'old_secret', 'old_until', 'older')
  local older, good, last = before[4] and cmsgpack.unpack(before[4]) or {}, {}, values.old_until
  if before[2] then
    older[#older + 1] = before[2]
    older[#older + 1] = tonumber(before[3])
  end
  for i = 1, #older, 2 do
    if now < older[i + 1] then
      good[#good + 1] = older[i]
      good[#good + 1] = older[i + 1]
      last = max(last, older[i + 1])
    end
  end
  if #good / 2 >= MOST_OLD_SECRETS then
    return {'too_many'}
  end
  for field, value in pairs({old_secret = before[1], older = cmsgpack.pack(good), olds_until = last}) do
    set[#set + 1] = field
    set[#set + 1] = value
  end
end
if mode == 'create' and is_key and values.team and call('EXISTS', prefix .. 'team') == 0 then
  return {'no_team'}
end

if mode == 'create' then
  keep(account_now(suffix, values.period, values.anchor))
elseif values.period or values.anchor then
  -- What is spent and held counts in the new window too.
  local old = call('HMGET', name, 'period', 'anchor')
  local account = account_now(suffix, old[1], old[2])
  account.replaced = account.replaced .. ' ' .. account.window .. ' '
  account.window, account.reset = window_at(values.period or old[1], values.anchor or old[2], now)
  keep(account)
end
if values.models and exists then
  for _, field in ipairs(call('HKEYS', name)) do
    if string.sub(field, 1, 2) == 'm:' then
      call('HDEL', name, field)
    end
  end
end
if #removed > 0 then
  call('HDEL', name, unpack(removed))
end
if #set > 0 then
  call('HSET', name, unpack(set))
end
-- What identify.lua reads, in one field.
local flat, record = call('HGETALL', name), {}
for i = 1, #flat, 2 do
  record[flat[i]] = flat[i + 1]
end
local function number(field)
  return tonumber(record[field]) or false
end
local alias, team, models = record.alias or '', record.team or '', record.models or ''
call('HSET', name, 'p', cmsgpack.pack({
  record.secret or '', record.old_secret or '', number('old_until'), record.blocked == '1', number('expires'),
  number('rpm'), number('tpm'), number('parallel'), number('budget'), record.period or '', record.anchor or '',
  team, models, alias .. '\0' .. team .. '\0' .. models, record.older and cmsgpack.unpack(record.older) or {},
}))
if is_key then
  call('SADD', ids, string.sub(suffix, 2))
end
note()
return {'ok', describe(suffix)}
