-- Charge an event that was written to the log instead; once, however often it is replayed.
--
-- KEYS[1] is seen:<process>. ARGV: from 3, the arguments of the event (charge.lua), then 1 if it may have been sent.
-- Returns the nano-USD that were charged now; 'seen'; or 'old': nobody knows any more whether it was charged.

local REPLAYED_TTL = 400 * 86400

local age = now - tonumber(ARGV[6])
if age > REPLAYED_TTL * 1000 then
  return 'old'
end
-- What was sent came in the order of its numbers, so the last number tells; what was never sent is in no such order.
if ARGV[13] == '1' then
  local last = tonumber(call('GET', KEYS[1]))
  if last and tonumber(ARGV[3]) <= last then
    return 'seen'
  elseif not last and age > (SEEN_TTL - DAY_MS / 1000) * 1000 then -- less what the clocks of two servers differ by
    return 'old'
  end
end
if not call('SET', prefix .. 'replayed:' .. ARGV[4], '1', 'NX', 'EX', REPLAYED_TTL) then
  return 'seen'
end
return settle(3)
