-- container: what the functions of shared lists, dicts and arrays share. Their items are JSON texts in one canonical
-- form, so equal values are equal bytes. `version` in meta grows with each change, so that who reads or rewrites more
-- than one call holds notices another's change. `refs` counts the anonymous objects that the items refer to
-- ({"$ref":"<kind>/<name>"}): the holders of the container keep those alive as well.

local ITEMS, REFS, ORDER, DRAFT, DRAFT_REFS = 4, 5, 6, 6, 7

local READ_AT_ONCE = 32 -- items of a page: large ones must not fill the memory before the page's limit is noticed

-- Counts what a text refers to, `by` "1" more or "-1" less. In a string of the text the quotes would be escaped.
local function refer(refs, text, by)
  for name in string.gmatch(text, '"%$ref":"(%l+/anon%.[^"]+)"') do
    if redis.call("HINCRBY", refs, name, by) <= 0 then
      redis.call("HDEL", refs, name)
    end
  end
end

-- The body of a step that changes the items. It answers "ok" first where it did, and has written nothing otherwise.
local function changing(body)
  return function(o)
    redis.call("HLEN", o.keys[REFS]) -- a wrong type fails here, before the first write
    local reply = body(o)
    if reply[1] ~= "ok" then
      return reply, false
    end
    local version = math.max((tonumber(o.m.version) or 0) + 1, o.us)
    redis.call("HSET", o.keys[META], "version", whole(version))
    return reply, true
  end
end

-- The items that a slice of Python's means: the first one's index, the step, how many; args[i] is start, stop and step,
-- "" where it is left out.
local function resolve_slice(length, args, i)
  local by = tonumber(args[i + 2])
  local low, high = 0, length
  if by < 0 then
    low, high = -1, length - 1
  end
  local function bound(text, missing)
    if text == "" then
      return missing
    end
    local at = tonumber(text)
    return math.min(math.max(at < 0 and at + length or at, low), high)
  end
  local start = bound(args[i], by > 0 and low or high)
  local stop = bound(args[i + 1], by > 0 and high or low)
  local count = math.ceil((stop - start) / by)
  return start, by, count > 0 and count or 0 -- never -0, which is written so
end

-- At most `count` items, 500 and about 1 MiB of them; `read(from, n)` gives some.
local function page(count, read)
  local items, bytes = {}, 0
  count = math.min(count, CHUNK)
  local from = 0
  while from < count and bytes < CHUNK_BYTES do
    local n = math.min(READ_AT_ONCE, count - from)
    for _, item in ipairs(read(from, n)) do
      items[#items + 1] = item
      bytes = bytes + #item
    end
    from = from + n
  end
  return items
end

-- What a reader of pages gets: `{"changed"}` where it began with another version.
local function is_other_version(m, version)
  return version ~= "" and version ~= (m[2] or "0")
end

-- refs: the anonymous objects that a container's items refer to.
--
-- KEYS      the object's keys (object): meta, members, log, items, refs
-- ARGV[1]   "0", or the cursor that the call before answered
-- Returns   {cursor, {kind/name, ...}}; "0" is the end

register("refs", { "no-writes" }, function(keys, args)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  local found = redis.call("HSCAN", keys[REFS], args[1], "COUNT", "100")
  local names = {}
  for i = 1, #found[2], 2 do
    names[#names + 1] = found[2][i]
  end
  return { found[1], names }
end)
