-- Charge an event that was written to the log instead; once, however often it is replayed.
--
-- KEYS[1] is seen:<process>. ARGV: from 3, the arguments of the event (charge.lua), then 1 if it may have been sent.
-- Returns the nano-USD that were charged now, or 'seen'.

local REPLAYED_TTL = 400 * 86400

-- What was sent came in the order of its numbers, so the last number tells; what was never sent is in no such order.
if ARGV[13] == '1' and tonumber(ARGV[3]) <= (tonumber(call('GET', KEYS[1])) or 0) then
  return 'seen'
end
if not call('SET', prefix .. 'replayed:' .. ARGV[4], '1', 'NX', 'EX', REPLAYED_TTL) then
  return 'seen'
end
return settle(3)
