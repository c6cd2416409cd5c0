-- Expire leases of an owner whom nobody asks for any more. Returns how many, and the nano-USD charged for them; with
-- those that describe.lua expired meanwhile.
local count, nanos = expire_leases(200)
local untold = call('HMGET', prefix .. 'untold', 'leases', 'nanos')
if untold[1] then
  count, nanos = count + untold[1], nanos + untold[2]
  call('DEL', prefix .. 'untold')
end
return {count, nanos}
