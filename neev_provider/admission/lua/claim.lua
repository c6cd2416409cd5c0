-- Take an alias, if it is still as its taker has seen it.
--
-- KEYS[1] is the aliases. ARGV: 3 `key:<alias>` or `team:<alias>`, 4 who takes it, 5 a word that no other claim has,
--   6 the claim that gives way ('': the alias is nobody's).
-- Returns the claim that stands now, '<id> <ms> <word>', and the time (ms).

local stands = call('HGET', KEYS[1], ARGV[3]) or ''
if stands == ARGV[6] then
  stands = ARGV[4] .. ' ' .. int(now) .. ' ' .. ARGV[5]
  call('HSET', KEYS[1], ARGV[3], stands)
end
return {stands, now}
