-- Expire leases of an owner whom nobody asks for any more. Returns how many, and the nano-USD charged for them.
local count, nanos = expire_leases(200)
return {count, nanos}
