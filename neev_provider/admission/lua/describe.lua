-- Tell all about an owner: its team's record and its keys', with what they have used. ARGV[3] is one key's id, or ''.
-- Returns the time, then each subject (subject.lua).
expire_untold()
local found = {now}
found[2] = describe('')
local ids = ARGV[3] == '' and call('SMEMBERS', prefix .. 'ids') or {ARGV[3]}
for _, id in ipairs(ids) do
  found[#found + 1] = describe(':' .. id)
end
return found
