-- Charge what requests did cost, in the order in which their process tells; each once, however often it tells.
--
-- KEYS[1] is seen:<process>. ARGV: 3 the number of the last event that the store has confirmed to this process, 0 if
-- none of late; then the arguments of each event (charge.lua). Returns for each the nano-USD that were charged now, or
-- 'seen'; or charges nothing and returns {'lost', number} if the store has forgotten what came after that number.

local seen = tonumber(call('GET', KEYS[1])) or 0
if seen < tonumber(ARGV[3]) then
  return {'lost', seen}
end
local charged = {}
for at_arg = 4, #ARGV, EVENT do
  local number = tonumber(ARGV[at_arg])
  if number <= seen then
    charged[#charged + 1] = 'seen'
  else
    -- First: a script that fails halfway is not undone, and nothing may be charged twice.
    call('SET', KEYS[1], number, 'EX', SEEN_TTL)
    seen = number
    charged[#charged + 1] = settle(at_arg)
  end
end
return charged
