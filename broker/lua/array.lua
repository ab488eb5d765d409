-- Shared arrays; a value is one of a single item. Their length `n` is fixed, and what was never set is `fill`.

local ARRAY = { fields = { "version", "n", "fill" }, drop = function() end }

-- The field of an index, nil where it is out of range.
local function field(n, index)
  local at = tonumber(index)
  if at < 0 then
    at = at + n
  end
  return at >= 0 and at < n and whole(at) or nil
end

-- Looks for the item at an index; nil and the answer where there is none.
local function find(o, index)
  local n = tonumber(o.m.n)
  if not n then
    return nil, { "gone" }
  end
  local at = field(n, index)
  if not at then
    return nil, { "range" }
  end
  local item = redis.call("HGET", o.keys[ITEMS], at)
  return at, item or o.m.fill, item
end

-- Replaces an item; `old` is nil or false where there was only the fill.
local function put(o, at, old, item)
  redis.call("HSET", o.keys[ITEMS], at, item)
  if old then
    refer(o.keys[REFS], old, "-1")
  end
  refer(o.keys[REFS], item, "1")
end

-- array_init: make an array, unless there is one.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs
-- ARGV[1..4] of a step (object)
-- ARGV[5]   its length
-- ARGV[6]   what its items are at first
-- Returns   {"ok"}, or {"had", length}

step("array_init", {}, ARRAY, changing(function(o)
  if o.m.n then
    return { "had", o.m.n }
  end
  redis.call("HSET", o.keys[META], "n", o.args[5], "fill", o.args[6])
  refer(o.keys[REFS], o.args[6], "1")
  return { "ok" }
end))

-- array_set: replace the item at an index.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs
-- ARGV[1..4] of a step (object)
-- ARGV[5]   index; negative from the end
-- ARGV[6]   item
-- Returns   {"ok"}, {"range"}, or {"gone"}

step("array_set", {}, ARRAY, changing(function(o)
  local at, answer, old = find(o, o.args[5])
  if not at then
    return answer
  end
  put(o, at, old, o.args[6])
  return { "ok" }
end))

-- array_write: replace items of a slice.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs
-- ARGV[1..4] of a step (object)
-- ARGV[5]   start, or ""
-- ARGV[6]   stop, or ""
-- ARGV[7]   step
-- ARGV[8]   how many items of the slice to pass over
-- ARGV[9]   how many items the whole slice must have
-- ARGV[10..] items, up to 500
-- Returns   {"ok"}, {"size", items of the slice}, or {"gone"}

step("array_write", {}, ARRAY, changing(function(o)
  if not o.m.n then
    return { "gone" }
  end
  local first, by, count = resolve_slice(tonumber(o.m.n), o.args, 5)
  if count ~= tonumber(o.args[9]) then
    return { "size", whole(count) }
  end
  redis.call("HLEN", o.keys[ITEMS]) -- a wrong type fails here, before the first write
  first = first + tonumber(o.args[8]) * by
  for i = 10, #o.args do
    local at = whole(first + (i - 10) * by)
    put(o, at, redis.call("HGET", o.keys[ITEMS], at), o.args[i])
  end
  return { "ok" }
end))

-- array_add: add to the integer at an index.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs
-- ARGV[1..4] of a step (object)
-- ARGV[5]   index; negative from the end
-- ARGV[6]   what to add
-- ARGV[7]   the least that the sum may be, or "" where 64 bits are the limit
-- ARGV[8]   the most, likewise
-- Returns   {"ok", the integer before}, {"overflow"}, {"other"} where it is no integer, {"range"}, or {"gone"}

step("array_add", {}, ARRAY, changing(function(o)
  local at, before, set = find(o, o.args[5])
  if not at then
    return before
  elseif not string.find(before, "^-?%d+$") then
    return { "other" }
  end
  local sum = tonumber(before) + tonumber(o.args[6])
  if o.args[7] ~= "" and (sum < tonumber(o.args[7]) or sum > tonumber(o.args[8])) then
    return { "overflow" }
  end
  if not set then
    redis.call("HSET", o.keys[ITEMS], at, before) -- which it was all the time
  end
  local added = redis.pcall("HINCRBY", o.keys[ITEMS], at, o.args[6]) -- exact, as Lua's numbers are not
  if type(added) == "table" and added.err then
    return { "overflow" }
  end
  return { "ok", before }
end))

-- array_swap: replace the item at an index if it is the expected one.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs
-- ARGV[1..4] of a step (object)
-- ARGV[5]   index; negative from the end
-- ARGV[6]   the expected item
-- ARGV[7]   the new one
-- Returns   {"ok"}, {"differs", item}, {"range"}, or {"gone"}

step("array_swap", {}, ARRAY, changing(function(o)
  local at, item, old = find(o, o.args[5])
  if not at then
    return item
  elseif item ~= o.args[6] then
    return { "differs", item }
  end
  put(o, at, old, o.args[7])
  return { "ok" }
end))

-- array_get: the item at an index.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs
-- ARGV[1]   index; negative from the end
-- Returns   {"ok", item}, {"range"}, or {"gone"}

register("array_get", { "no-writes" }, function(keys, args)
  local m, problem = settings(keys, "n", "fill")
  if not m then
    return problem
  end
  local at, item = find({ keys = keys, m = { n = m[2], fill = m[3] } }, args[1])
  return at and { "ok", item } or item
end)

-- array_len: its length.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs
-- Returns   {"ok", length}, or {"gone"}

register("array_len", { "no-writes" }, function(keys)
  local m, problem = settings(keys, "n")
  if not m then
    return problem
  end
  return m[2] and { "ok", m[2] } or { "gone" }
end)

-- array_read: a page of a slice.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs
-- ARGV[1]   the version that the first page had, or ""
-- ARGV[2]   how many items of the slice to pass over
-- ARGV[3]   start, or ""
-- ARGV[4]   stop, or ""
-- ARGV[5]   step
-- Returns   {"ok", version, items in the slice, {item, ...}}, {"changed"}, or {"gone"}

register("array_read", { "no-writes" }, function(keys, args)
  local m, problem = settings(keys, "version", "n", "fill")
  if not m then
    return problem
  elseif not m[3] then
    return { "gone" }
  elseif is_other_version(m, args[1]) then
    return { "changed" }
  end
  local skip = tonumber(args[2])
  local first, by, count = resolve_slice(tonumber(m[3]), args, 3)
  local items = page(count - skip, function(from, n)
    local fields = {}
    for i = 1, n do
      fields[i] = whole(first + (skip + from + i - 1) * by)
    end
    local found = redis.call("HMGET", keys[ITEMS], unpack(fields))
    for i = 1, n do
      found[i] = found[i] or m[4]
    end
    return found
  end)
  return { "ok", m[2] or "0", whole(count), items }
end)
