-- Tell all about an owner: its team's record and its keys', with what they have used. ARGV[3] is one key's id, or ''.
-- Returns the time, then for each subject its id ('' for the team), record, nano-USD spent and held, open leases,
-- and when its budget's window ends (ms, or '').
local expired, nanos = expire_leases(200)
if expired > 0 then
  -- Who asks here keeps no account of the gateway's total: the next sweep tells it.
  call('HINCRBY', prefix .. 'untold', 'leases', expired)
  call('HINCRBY', prefix .. 'untold', 'nanos', nanos)
end
local found = {now}

local function describe(id, suffix, name)
  local record = call('HGETALL', name)
  if #record == 0 then
    return
  end
  local times = call('HMGET', name, 'period', 'anchor')
  local use = usage_of(suffix, times[1], times[2], now)
  found[#found + 1] = {id, record, use.spent, use.held, use.par, use.reset and use.reset or ''}
end

describe('', '', prefix .. 'team')
local ids = ARGV[3] == '' and call('SMEMBERS', prefix .. 'ids') or {ARGV[3]}
for _, id in ipairs(ids) do
  describe(id, ':' .. id, prefix .. 'key:' .. id)
end
return found
