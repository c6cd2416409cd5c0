-- Who holds a token. ARGV[3] is the key's id, ARGV[4] the SHA-256 of the token (32 bytes), ARGV[5] a model or ''.
-- Shared by authenticate.lua and admit.lua.

-- A record is read from its field `p`, where record.lua packs what is needed here: reading the fields one by one
-- costs three times as much.
local SECRET, OLD_SECRET, OLD_UNTIL, BLOCKED, EXPIRES, RPM, TPM, PARALLEL, BUDGET, PERIOD, ANCHOR, TEAM, MODELS, WHO, OLDER =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15

local function record(name, model)
  local stored = call('HMGET', name, 'p', 'm:' .. model)
  if not stored[1] then
    return nil
  end
  local found = cmsgpack.unpack(stored[1])
  found.allows = found[MODELS] == '' or stored[2] == '1'
  return found
end

-- Lua keeps each text once, and compares by its address: it takes as long whatever the digests have in common.
local function is_good(digest, key)
  if digest == key[SECRET] or (digest == key[OLD_SECRET] and key[OLD_UNTIL] and now < key[OLD_UNTIL]) then
    return true
  end
  local older = key[OLDER] or {}
  for i = 1, #older, 2 do
    if digest == older[i] and now < older[i + 1] then
      return true
    end
  end
  return false
end

-- Return the key and its team (nil if it has none), or nil, nil and why not: 'unknown', 'blocked', 'expired'.
local function identify(id, digest, model)
  local key = record(prefix .. 'key:' .. id, model)
  if not key then
    return nil, nil, 'unknown'
  end
  if not is_good(digest, key) then
    return nil, nil, 'unknown'
  end
  local team = nil
  if key[TEAM] ~= '' then
    team = record(prefix .. 'team', model)
    if not team then
      return nil, nil, 'unknown'
    end
  end
  if key[BLOCKED] then
    return nil, nil, 'blocked'
  end
  if team and team[BLOCKED] then
    return nil, nil, 'team_blocked'
  end
  if key[EXPIRES] and now >= key[EXPIRES] then
    return nil, nil, 'expired'
  end
  return key, team
end
