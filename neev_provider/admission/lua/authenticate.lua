-- Return who holds a token, or why nobody does. Writes nothing.
local key, team, why = identify(ARGV[3], ARGV[4], '')
if not key then
  return {why}
end
return {'ok', key[WHO], team and team[MODELS] or ''}
