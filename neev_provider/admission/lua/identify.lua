-- Who holds a token. ARGV[3] is the key's id, ARGV[4] the SHA-256 of the token (32 bytes), ARGV[5] a model or ''.
-- Shared by authenticate.lua and admit.lua.

local function record(name, model)
  local values = call('HMGET', name, 'models', 'blocked', 'secret', 'old_secret', 'old_until', 'expires', 'alias',
    'team', 'rpm', 'tpm', 'parallel', 'budget', 'period', 'anchor', 'm:' .. model)
  if not values[1] then
    return nil
  end
  return {
    models = values[1], blocked = values[2] == '1', secret = values[3], old_secret = values[4],
    old_until = tonumber(values[5]), expires = tonumber(values[6]), alias = values[7] or '', team = values[8] or '',
    rpm = tonumber(values[9]), tpm = tonumber(values[10]), parallel = tonumber(values[11]),
    budget = tonumber(values[12]), period = values[13], anchor = values[14],
    allows = values[1] == '' or values[15] == '1',
  }
end

-- Compare two digests without stopping at the first difference.
local function equal(given, stored)
  if not stored or #stored ~= 32 or #given ~= 32 then
    return false
  end
  local a, b, c, d, e, f, g, h = struct.unpack('>I4I4I4I4I4I4I4I4', given)
  local p, q, r, s, t, u, v, w = struct.unpack('>I4I4I4I4I4I4I4I4', stored)
  local bxor = bit.bxor
  return bit.bor(bxor(a, p), bxor(b, q), bxor(c, r), bxor(d, s), bxor(e, t), bxor(f, u), bxor(g, v), bxor(h, w)) == 0
end

-- Return the key and its team (nil if it has none), or nil, nil and why not: 'unknown', 'blocked', 'expired'.
local function identify(id, digest, model)
  local key = record(prefix .. 'key:' .. id, model)
  if not key then
    return nil, nil, 'unknown'
  end
  local is_new, is_old = equal(digest, key.secret), equal(digest, key.old_secret)
  if not is_new and not (is_old and key.old_until and now < key.old_until) then
    return nil, nil, 'unknown'
  end
  local team = nil
  if key.team ~= '' then
    team = record(prefix .. 'team', model)
    if not team then
      return nil, nil, 'unknown'
    end
  end
  if key.blocked then
    return nil, nil, 'blocked'
  end
  if team and team.blocked then
    return nil, nil, 'team_blocked'
  end
  if key.expires and now >= key.expires then
    return nil, nil, 'expired'
  end
  return key, team
end
