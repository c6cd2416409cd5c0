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
  local account = account_now(suffix, times[1], times[2])
  found[#found + 1] = {
    id, record, account.spent, account.held, account.parallel, account.reset < NEVER and account.reset or '',
  }
end

describe('', '', prefix .. 'team')
local ids = ARGV[3] == '' and call('SMEMBERS', prefix .. 'ids') or {ARGV[3]}
for _, id in ipairs(ids) do
  describe(id, ':' .. id, prefix .. 'key:' .. id)
end
return found
