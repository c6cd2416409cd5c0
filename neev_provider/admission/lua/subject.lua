-- Tells of a subject: its record and what it has used. Shared by describe.lua and record.lua.

local function expire_untold()
  local expired, nanos = expire_leases(200)
  if expired > 0 then
    -- Who asks here keeps no account of the gateway's total: the next sweep tells it.
    call('HINCRBY', prefix .. 'untold', 'leases', expired)
    call('HINCRBY', prefix .. 'untold', 'nanos', nanos)
  end
end

-- Its id ('' for the team), record, nano-USD spent and held, open leases, and when its budget's window ends (ms, or
-- ''); nil if there is no record. `suffix` is ':<key id>', or '' for the team.
local function describe(suffix)
  local name = prefix .. (suffix == '' and 'team' or 'key' .. suffix)
  local record = call('HGETALL', name)
  if #record == 0 then
    return nil
  end
  local times = call('HMGET', name, 'period', 'anchor')
  local account = account_now(suffix, times[1], times[2])
  return {
    string.sub(suffix, 2), record, account.spent, account.held, account.parallel,
    account.reset < NEVER and account.reset or '',
  }
end
