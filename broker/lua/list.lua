-- Shared lists. An item in the middle is found by its index and then by a mark, which is no JSON.

local LIST = { fields = { "version", "draft" }, drop = function() end }
local MARK = "\0"
local DRAFT_TTL = "60000" -- ms: what a rewriter that died has left
local COUNT_ITEMS = 16384 -- items that a call compares, within its time
local COUNT_AT_ONCE = 128 -- of them, as in READ_AT_ONCE

local function length(o)
  return redis.call("LLEN", o.keys[ITEMS])
end

-- Removes so many marks, all near this index of n: Redis walks from an end to the last of them, so from the nearer one.
local function remove_marks(items, count, at, n)
  redis.call("LREM", items, whole(at < n / 2 and count or -count), MARK)
end

-- Takes out the item at an index that exists, 0 or more.
local function take_at(o, at, n)
  local items = o.keys[ITEMS]
  if at == 0 then
    return redis.call("LPOP", items)
  elseif at == n - 1 then
    return redis.call("RPOP", items)
  end
  local item = redis.call("LINDEX", items, whole(at))
  redis.call("LSET", items, whole(at), MARK)
  remove_marks(items, 1, at, n)
  return item
end

-- `n` items from an index on, each `by` further.
local function items_from(items, at, by, n)
  if by == 1 then
    return redis.call("LRANGE", items, whole(at), whole(at + n - 1))
  end
  local found = {}
  for i = 1, n do
    found[i] = redis.call("LINDEX", items, whole(at + (i - 1) * by))
  end
  return found
end

-- list_extend: append items.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1..4] of a step (object)
-- ARGV[5..] items, 1 to 500
-- Returns   {"ok"}

step("list_extend", {}, LIST, changing(function(o)
  length(o) -- a wrong type fails here, before the first write
  redis.call("RPUSH", o.keys[ITEMS], unpack(o.args, 5))
  for i = 5, #o.args do
    refer(o.keys[REFS], o.args[i], "1")
  end
  return { "ok" }
end))

-- list_insert: insert an item before an index; one beyond the ends means the end.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1..4] of a step (object)
-- ARGV[5]   index; negative from the end
-- ARGV[6]   item
-- Returns   {"ok"}

step("list_insert", {}, LIST, changing(function(o)
  local at, item, items, n = tonumber(o.args[5]), o.args[6], o.keys[ITEMS], length(o)
  if at < 0 then
    at = math.max(at + n, 0)
  end
  if at >= n then
    redis.call("RPUSH", items, item)
  elseif at == 0 then
    redis.call("LPUSH", items, item)
  else
    local next = redis.call("LINDEX", items, whole(at))
    redis.call("LSET", items, whole(at), MARK)
    redis.call("LINSERT", items, "BEFORE", MARK, item)
    redis.call("LSET", items, whole(at + 1), next)
  end
  refer(o.keys[REFS], item, "1")
  return { "ok" }
end))

-- list_pop: take the item at an index.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1..4] of a step (object)
-- ARGV[5]   index; negative from the end
-- Returns   {"ok", item}, or {"range"}

step("list_pop", { "allow-oom" }, LIST, changing(function(o)
  local at, n = tonumber(o.args[5]), length(o)
  if at < 0 then
    at = at + n
  end
  if at < 0 or at >= n then
    return { "range" }
  end
  local item = take_at(o, at, n)
  refer(o.keys[REFS], item, "-1")
  return { "ok", item }
end))

-- list_remove: remove the first item that is equal.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1..4] of a step (object)
-- ARGV[5]   item
-- Returns   {"ok"}, or {"missing"}

step("list_remove", { "allow-oom" }, LIST, changing(function(o)
  local item = o.args[5]
  if redis.call("LREM", o.keys[ITEMS], "1", item) == 0 then
    return { "missing" }
  end
  refer(o.keys[REFS], item, "-1")
  return { "ok" }
end))

-- list_set: replace the item at an index.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1..4] of a step (object)
-- ARGV[5]   index; negative from the end
-- ARGV[6]   item
-- Returns   {"ok"}, or {"range"}

step("list_set", {}, LIST, changing(function(o)
  local at, item = o.args[5], o.args[6]
  local old = redis.call("LINDEX", o.keys[ITEMS], at)
  if not old then
    return { "range" }
  end
  redis.call("LSET", o.keys[ITEMS], at, item)
  refer(o.keys[REFS], old, "-1")
  refer(o.keys[REFS], item, "1")
  return { "ok" }
end))

-- list_delete: remove the items of a slice.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1..4] of a step (object)
-- ARGV[5]   start, or ""
-- ARGV[6]   stop, or ""
-- ARGV[7]   step
-- Returns   {"ok"}, {"none"} where it is empty, or {"large"}: more than 500, to be done with a draft

step("list_delete", { "allow-oom" }, LIST, changing(function(o)
  local n = length(o)
  local first, by, count = resolve_slice(n, o.args, 5)
  if count == 0 then
    return { "none" }
  elseif count > CHUNK then
    return { "large" }
  end
  local items = o.keys[ITEMS]
  for i = 0, count - 1 do
    local at = whole(first + i * by)
    refer(o.keys[REFS], redis.call("LINDEX", items, at), "-1")
    redis.call("LSET", items, at, MARK)
  end
  remove_marks(items, count, first + math.floor(count / 2) * by, n)
  return { "ok" }
end))

-- list_clear: remove all items.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1..4] of a step (object)
-- Returns   {"ok"}

step("list_clear", { "allow-oom" }, LIST, changing(function(o)
  redis.call("UNLINK", o.keys[ITEMS], o.keys[REFS])
  return { "ok" }
end))

-- list_draft: write a page of what shall replace all items, for list_commit. There is one draft at a time: who begins
-- another one ends it.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1..4] of a step (object)
-- ARGV[5]   the version that it is made of
-- ARGV[6]   the draft's id
-- ARGV[7]   "1" to begin it
-- ARGV[8..] items, up to 500
-- Returns   {"ok"}, or {"changed"}: begin again

step("list_draft", {}, LIST, function(o)
  local draft, refs = o.keys[DRAFT], o.keys[DRAFT_REFS]
  local begins = o.args[7] == "1"
  if o.args[5] ~= (o.m.version or "0") or not begins and o.m.draft ~= o.args[6] then
    return { "changed" }, false
  end
  if begins then
    redis.call("UNLINK", draft, refs)
    redis.call("HSET", o.keys[META], "draft", o.args[6])
  end
  if #o.args > 7 then
    redis.call("RPUSH", draft, unpack(o.args, 8))
  end
  for i = 8, #o.args do
    refer(refs, o.args[i], "1")
  end
  redis.call("PEXPIRE", draft, DRAFT_TTL)
  redis.call("PEXPIRE", refs, DRAFT_TTL)
  return { "ok" }, true
end)

-- list_commit: replace all items by the draft.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1..4] of a step (object)
-- ARGV[5]   the version that the draft is made of
-- ARGV[6]   the draft's id
-- ARGV[7]   how many items it has
-- Returns   {"ok"}, or {"changed"}: begin again

step("list_commit", { "allow-oom" }, LIST, changing(function(o)
  local keys = o.keys
  local whose = o.args[5] == (o.m.version or "0") and o.m.draft == o.args[6]
  if not whose or redis.call("LLEN", keys[DRAFT]) ~= tonumber(o.args[7]) then
    return { "changed" }
  end
  for from, to in pairs({ [DRAFT] = ITEMS, [DRAFT_REFS] = REFS }) do
    if redis.call("EXISTS", keys[from]) == 1 then
      redis.call("RENAME", keys[from], keys[to])
      redis.call("PERSIST", keys[to])
    else
      redis.call("UNLINK", keys[to])
    end
  end
  redis.call("HDEL", keys[META], "draft")
  return { "ok" }
end))

-- list_read: a page of a slice.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1]   the version that the first page had, or ""
-- ARGV[2]   how many items of the slice to pass over
-- ARGV[3]   start, or ""
-- ARGV[4]   stop, or ""
-- ARGV[5]   step
-- Returns   {"ok", version, items in the slice, {item, ...}}, or {"changed"}

register("list_read", { "no-writes" }, function(keys, args)
  local m, problem = settings(keys, "version")
  if not m then
    return problem
  elseif is_other_version(m, args[1]) then
    return { "changed" }
  end
  local skip = tonumber(args[2])
  local first, by, count = resolve_slice(redis.call("LLEN", keys[ITEMS]), args, 3)
  local items = page(count - skip, function(from, n)
    return items_from(keys[ITEMS], first + (skip + from) * by, by, n)
  end)
  return { "ok", m[2] or "0", whole(count), items }
end)

-- list_get: the item at an index.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1]   index; negative from the end
-- Returns   {"ok", item}, or {"range"}

register("list_get", { "no-writes" }, function(keys, args)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  local item = redis.call("LINDEX", keys[ITEMS], args[1])
  return item and { "ok", item } or { "range" }
end)

-- list_len: how many items there are.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- Returns   {"ok", items}

register("list_len", { "no-writes" }, function(keys)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  return { "ok", whole(redis.call("LLEN", keys[ITEMS])) }
end)

-- list_index: where the first item is that is equal.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1]   item
-- Returns   {"ok", index}, or {"missing"}

register("list_index", { "no-writes" }, function(keys, args)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  local at = redis.call("LPOS", keys[ITEMS], args[1])
  return at and { "ok", whole(at) } or { "missing" }
end)

-- list_count: how many items are equal, among some 16,000 or 1 MiB of them.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs, draft, draft.refs
-- ARGV[1]   the version that the first call answered, or ""
-- ARGV[2]   how many items to pass over
-- ARGV[3]   item
-- Returns   {"ok", version, how many are equal, how many items to pass over next, or "" at the end}, or {"changed"}

register("list_count", { "no-writes" }, function(keys, args)
  local m, problem = settings(keys, "version")
  if not m then
    return problem
  elseif is_other_version(m, args[1]) then
    return { "changed" }
  end
  local from, item, equal, bytes = tonumber(args[2]), args[3], 0, 0
  local n, at = redis.call("LLEN", keys[ITEMS]), from
  while at < n and at - from < COUNT_ITEMS and bytes < CHUNK_BYTES do
    for _, other in ipairs(redis.call("LRANGE", keys[ITEMS], whole(at), whole(at + COUNT_AT_ONCE - 1))) do
      equal = equal + (other == item and 1 or 0)
      bytes = bytes + #other
    end
    at = at + COUNT_AT_ONCE
  end
  return { "ok", m[2] or "0", whole(equal), at < n and whole(at) or "" }
end)
