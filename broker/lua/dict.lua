-- Shared dicts and namespaces: keys and values in a hash, keys by the order of their insertion in `order`.

local DICT = { fields = { "version" }, drop = function() end }

-- Sets a value; a new key becomes the last.
local function put(o, key, value, ticket)
  local old = redis.call("HGET", o.keys[ITEMS], key)
  redis.call("HSET", o.keys[ITEMS], key, value)
  if old then
    refer(o.keys[REFS], old, "-1")
  else
    redis.call("ZADD", o.keys[ORDER], whole(ticket), key)
  end
  refer(o.keys[REFS], value, "1")
end

local function take(o, key)
  local value = redis.call("HGET", o.keys[ITEMS], key)
  if not value then
    return { "missing" }
  end
  redis.call("HDEL", o.keys[ITEMS], key)
  redis.call("ZREM", o.keys[ORDER], key)
  refer(o.keys[REFS], value, "-1")
  return { "ok", key, value }
end

-- dict_set: set values.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, order
-- ARGV[1..4] of a step (object)
-- ARGV[5..] key and value, 1 to 250 times
-- Returns   {"ok"}

step("dict_set", {}, DICT, changing(function(o)
  local ticket = tonumber(next_ticket(o.keys[ORDER], o.us))
  redis.call("HLEN", o.keys[ITEMS]) -- a wrong type fails here, before the first write
  for i = 5, #o.args, 2 do
    put(o, o.args[i], o.args[i + 1], ticket + i)
  end
  return { "ok" }
end))

-- dict_setdefault: set a value unless there is one.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, order
-- ARGV[1..4] of a step (object)
-- ARGV[5]   key
-- ARGV[6]   value
-- Returns   {"ok"}, or {"had", value}

step("dict_setdefault", {}, DICT, changing(function(o)
  local had = redis.call("HGET", o.keys[ITEMS], o.args[5])
  if had then
    return { "had", had }
  end
  put(o, o.args[5], o.args[6], next_ticket(o.keys[ORDER], o.us))
  return { "ok" }
end))

-- dict_pop: take a key's value.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, order
-- ARGV[1..4] of a step (object)
-- ARGV[5]   key
-- Returns   {"ok", key, value}, or {"missing"}

step("dict_pop", { "allow-oom" }, DICT, changing(function(o)
  redis.call("ZCARD", o.keys[ORDER]) -- a wrong type fails here, before the first write
  return take(o, o.args[5])
end))

-- dict_popitem: take the key that was inserted last, and its value.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, order
-- ARGV[1..4] of a step (object)
-- Returns   {"ok", key, value}, or {"missing"}

step("dict_popitem", { "allow-oom" }, DICT, changing(function(o)
  local last = redis.call("ZRANGE", o.keys[ORDER], "-1", "-1")[1]
  return last and take(o, last) or { "missing" }
end))

-- dict_clear: remove all keys.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, order
-- ARGV[1..4] of a step (object)
-- Returns   {"ok"}

step("dict_clear", { "allow-oom" }, DICT, changing(function(o)
  redis.call("UNLINK", o.keys[ITEMS], o.keys[REFS], o.keys[ORDER])
  return { "ok" }
end))

-- dict_get: a key's value.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, order
-- ARGV[1]   key
-- Returns   {"ok", value}, or {"missing"}

register("dict_get", { "no-writes" }, function(keys, args)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  local value = redis.call("HGET", keys[ITEMS], args[1])
  return value and { "ok", value } or { "missing" }
end)

-- dict_contains: whether there is a key.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, order
-- ARGV[1]   key
-- Returns   {"ok"}, or {"missing"}

register("dict_contains", { "no-writes" }, function(keys, args)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  return { redis.call("HEXISTS", keys[ITEMS], args[1]) == 1 and "ok" or "missing" }
end)

-- dict_len: how many keys there are.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, order
-- Returns   {"ok", keys}

register("dict_len", { "no-writes" }, function(keys)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  return { "ok", whole(redis.call("HLEN", keys[ITEMS])) }
end)

-- dict_read: a page of keys and values, in the order of their insertion.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, order
-- ARGV[1]   the version that the first page had, or ""
-- ARGV[2]   how many keys and values to pass over
-- Returns   {"ok", version, keys and values in all, {key, value, ...}}, or {"changed"}

register("dict_read", { "no-writes" }, function(keys, args)
  local m, problem = settings(keys, "version")
  if not m then
    return problem
  elseif is_other_version(m, args[1]) then
    return { "changed" }
  end
  local skip, count = tonumber(args[2]) / 2, redis.call("HLEN", keys[ITEMS])
  local items = page(count - skip, function(from, n)
    local at = skip + from
    local found = redis.call("ZRANGE", keys[ORDER], whole(at), whole(at + n - 1))
    local values, pairs = redis.call("HMGET", keys[ITEMS], unpack(found)), {}
    for i, key in ipairs(found) do
      pairs[2 * i - 1], pairs[2 * i] = key, values[i]
    end
    return pairs
  end)
  return { "ok", m[2] or "0", whole(count * 2), items }
end)
