-- Keep open the leases that a living process holds. ARGV: 3 ms that they live, then the leases.
local due = prefix .. 'due'
for i = 4, #ARGV do
  call('ZADD', due, 'XX', now + ARGV[3], ARGV[i])
end
return #ARGV - 3
