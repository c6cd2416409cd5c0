-- The spend of the whole gateway: add what a process has charged since, and tell what all have charged and hold.
--
-- Its names lie in a slot of their own. KEYS[1] is total. ARGV: 3 process, 4 number, 5 period, 6 nano-USD charged
-- since the last call that was answered, 7 nano-USD held now, 8 ms that its word counts.
-- Returns {window, nano-USD spent, held by others, ms until the next window or '', now}.

local name = KEYS[1]
local process, number = ARGV[3], tonumber(ARGV[4])
local window, reset = window_at(ARGV[5], '0', now)
local stored = call('HMGET', name, 'w', 'spent')
local spent = tonumber(stored[2]) or 0
if not stored[1] or has_ended(stored[1], window) then
  spent = 0
  call('HSET', name, 'w', window, 'spent', '0')
end

local seen = tonumber(call('HGET', name .. ':seen', process)) or 0
if number > seen then
  spent = spent + tonumber(ARGV[6])
  call('HSET', name, 'spent', spent)
  call('HSET', name .. ':seen', process, number)
end

-- Who has not spoken for a while has died, and its leases expire by themselves; or the store was away.
local FORGET_MS = 7 * DAY_MS
call('HSET', name .. ':held', process, ARGV[7] .. ' ' .. int(now))
local held, all = 0, call('HGETALL', name .. ':held')
for i = 1, #all, 2 do
  local nanos, at = string.match(all[i + 1], '^(%S+) (%S+)$')
  if now - at > FORGET_MS then
    call('HDEL', name .. ':held', all[i])
    call('HDEL', name .. ':seen', all[i])
  elseif all[i] ~= process and now - at <= tonumber(ARGV[8]) then
    held = held + tonumber(nanos)
  end
end

return {window, spent, held, reset < NEVER and reset - now or '', now}
