-- giveback: how a run that did not end goes back, for release, refuse and reclaim.

-- The runs that a call names and that are still held, each once; false for the others. A run is `step` arguments from
-- `first` on, its id and running value ahead. Answers also whether any task has used attempts.
local function held_runs(keys, args, first, step)
  local ids = {}
  for i = first, #args, step do
    ids[#ids + 1] = args[i]
  end
  local held = redis.call("HMGET", keys[RUNNING], unpack(ids))
  local attempts = redis.call("HLEN", keys[ATTEMPTS]) > 0
  local rows = attempts and redis.call("HMGET", keys[ATTEMPTS], unpack(ids)) or {}
  local runs, known = {}, {}
  for i, id in ipairs(ids) do
    local value = args[first + step * (i - 1) + 1]
    runs[i] = false
    if held[i] and held[i] == value and not known[id] then
      known[id] = true
      runs[i] = { id = id, value = value, used = parse_attempts(rows[i]) }
    end
  end
  return runs, attempts
end

-- Gathers ids by the list they go back to: suspects apart, the others to the head of their priority.
local function new_giveback(keys)
  return { keys = keys, lists = {}, count = 0 }
end

local function add_giveback(back, id, priority, crashes)
  local list = crashes >= SUSPECT_CRASHES and SUSPECTS or READY + priority
  if not back.lists[list] then
    redis.call("LLEN", back.keys[list]) -- a wrong type fails here, before the first write
    back.lists[list] = {}
  end
  local ids = back.lists[list]
  ids[#ids + 1] = id
  back.count = back.count + 1
end

local function write_giveback(back, tokens)
  for list, ids in pairs(back.lists) do
    in_chunks(ids, function(...)
      redis.call("LPUSH", back.keys[list], ...)
    end)
  end
  if back.count > 0 then
    wake(back.keys[WAKE], tokens, back.count)
  end
end

-- The items of a consumer's batch that it took but never confirmed: `name` and the completions, oldest first.
local function unpack_batch(log)
  local length = string.byte(log, 14)
  local name, items, at = string.sub(log, 15, 14 + length), {}, 15 + length
  while at <= #log do
    local size = struct.unpack("<I4", log, at)
    items[#items + 1] = string.sub(log, at + 4, at + 3 + size)
    at = at + 4 + size
  end
  return name, items
end

-- Ends a client's row: an unconfirmed batch goes back, what it owned goes. Reads first, answers the write.
local function end_client(keys, who, log, confirmed)
  local kind = string.sub(log, 5, 5)
  local name, items
  if kind == "c" then
    name, items = unpack_batch(log)
  else
    name, items = string.sub(log, 6), {}
  end
  local list, waiters = part(keys, "done:" .. name), part(keys, "wake.done:" .. name)
  redis.call("LLEN", list)
  local have = redis.call("LLEN", waiters)
  return function()
    if kind == "o" and name ~= "" then
      redis.call("UNLINK", list, waiters)
      redis.call("SREM", keys[NAMES], name)
    elseif #items > 0 and not confirmed then
      for i = #items, 1, -1 do
        redis.call("LPUSH", list, items[i])
      end
      redis.call("SADD", keys[NAMES], name)
      wake(waiters, have, #items)
    end
    redis.call("HDEL", keys[CLAIMS], who)
    redis.call("HDEL", keys[CANCELS], who)
  end
end
