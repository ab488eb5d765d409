-- submit: take new tasks in, all of a call or none.
--
-- Moves     (nothing) -> ready, or (nothing) -> scheduled
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   n, how many tasks, at most 500
-- ARGV[2]   "1" if the caller gave the ids itself, "0" if pmq has just made them
-- ARGV[3..] n pairs: id (16 bytes), envelope
-- then      nothing, or n due times: "" now, "+ms" after now, "ms" since the epoch
-- Returns   {"ok", one letter a task: n new, e exists, d ended before}, {"conflict", index of the task},
--           or {"full", "tasks" | "completions", limit}
-- Fails     PMQMALFORMED where the number of tasks, an id, a control part or a due time can't be read

local function check_malformed(args, n)
  if not n or n < 1 or n > CHUNK then
    return redis.error_reply("PMQMALFORMED a call takes 1 to " .. CHUNK .. " tasks")
  end
  for i = 1, n do
    local id, envelope = args[1 + 2 * i], args[2 + 2 * i]
    if not envelope or #id ~= 16 or not readable(envelope) then
      return redis.error_reply("PMQMALFORMED task " .. i .. " has no 16-byte id or no readable control part")
    end
    local due = args[2 + 2 * n + i]
    if due and due ~= "" and not string.find(due, "^%+?%d+$") then
      return redis.error_reply("PMQMALFORMED task " .. i .. " has no readable due time")
    end
  end
end

-- One letter a task, or the index of the first whose id stands for other bytes.
local function recognise(keys, args, n, buckets)
  local ids, letters = {}, {}
  for i = 1, n do
    ids[i] = args[1 + 2 * i]
  end
  local here = redis.call("HMGET", keys[TASKS], unpack(ids))
  local ended = find_records(keys, ids, buckets, args[2] ~= "1" and 2 or nil)
  local holes = redis.call("SMISMEMBER", keys[HOLES], unpack(ids)) -- ids still on a list, which would run twice
  local mine = {}
  for i = 1, n do
    local digest = string.sub(args[2 + 2 * i], 16, 23)
    local known = here[i] and string.sub(here[i], 16, 23) or ended[i] and string.sub(ended[i], 7, 14) or mine[ids[i]]
    if known and known ~= digest then
      return nil, i
    end
    letters[i] = (here[i] or mine[ids[i]]) and "e" or (ended[i] or holes[i] == 1) and "d" or "n"
    mine[ids[i]] = digest
  end
  return letters
end

-- The completion queue that an envelope names; its flags say that there is one.
local function completions_name(envelope)
  local flags, at = string.byte(envelope, 2), CONTROL + 1
  if bit.band(flags, HAS_EXPIRY) ~= 0 then
    at = at + 8
  end
  if bit.band(flags, HAS_OWNER) ~= 0 then
    at = at + 16
  end
  return string.sub(envelope, at + 1, at + string.byte(envelope, at))
end

-- Sorts the new tasks into what the writes need: fields, ready lists by priority, schedule.
local function sort_new(args, n, letters, ms)
  local new = { fields = {}, ready = {}, due = {}, count = 0, readied = 0, largest = 0, names = {} }
  for i = 1, n do
    if letters[i] == "n" then
      local id, envelope, due = args[1 + 2 * i], args[2 + 2 * i], args[2 + 2 * n + i]
      local priority = string.byte(envelope, 4)
      new.count = new.count + 1
      new.fields[#new.fields + 1] = id
      new.fields[#new.fields + 1] = envelope
      new.largest = math.max(new.largest, #envelope)
      if bit.band(string.byte(envelope, 2), HAS_COMPLETIONS) ~= 0 then
        new.names[completions_name(envelope)] = true
      end
      if due and due ~= "" then
        local at = string.sub(due, 1, 1) == "+" and ms + tonumber(due) or tonumber(due)
        new.due[#new.due + 1] = time_score(at, priority)
        new.due[#new.due + 1] = id
        new.earliest = math.min(new.earliest or at, at)
      else
        local list = new.ready[priority] or {}
        list[#list + 1] = id
        new.ready[priority] = list
        new.readied = new.readied + 1
      end
    end
  end
  return new
end

-- What is full, if the new tasks find no room.
local function find_full(keys, new, maxsize, completions, completions_max)
  if maxsize and tonumber(maxsize) > 0 then
    local waiting = redis.call("HLEN", keys[TASKS]) - redis.call("HLEN", keys[RUNNING]) - redis.call("ZCARD", keys[DEAD])
    if waiting + new.count > tonumber(maxsize) then
      return { "full", "tasks", maxsize }
    end
  end
  if completions then
    new.names[completions] = true
  end
  local limit = tonumber(completions_max) or 1000000
  for name in pairs(new.names) do
    if redis.call("LLEN", part(keys, "done:" .. name)) >= limit then
      return { "full", "completions", whole(limit) }
    end
  end
end

register("submit", {}, function(keys, args)
  local n = tonumber(args[1])
  local m, problem = settings(keys, "largest", "buckets", "maxsize", "completions", "completions_max")
  problem = problem or check_malformed(args, n)
  if problem then
    return problem
  end
  local letters, conflict = recognise(keys, args, n, m[3])
  if conflict then
    return { "conflict", conflict }
  end
  local ms = clock()
  local new = sort_new(args, n, letters, ms)
  local full = new.count > 0 and find_full(keys, new, m[4], m[5], m[6])
  if full then
    return full
  end
  local tokens = redis.call("LLEN", keys[WAKE])
  local first = redis.call("ZRANGE", keys[SCHEDULED], "0", "0", "WITHSCORES")
  for priority in pairs(new.ready) do
    redis.call("LLEN", keys[READY + priority]) -- a wrong type fails here, before the first write
  end

  if new.count == 0 then
    return { "ok", table.concat(letters) }
  end
  if not m[1] or new.largest > (tonumber(m[2]) or 0) then
    redis.call("HSET", keys[META], "layout", LAYOUT, "largest", whole(math.max(new.largest, tonumber(m[2]) or 0)))
  end
  redis.call("HSET", keys[TASKS], unpack(new.fields))
  for priority, ids in pairs(new.ready) do
    redis.call("RPUSH", keys[READY + priority], unpack(ids))
  end
  local wakes = new.readied
  if #new.due > 0 then
    redis.call("ZADD", keys[SCHEDULED], unpack(new.due))
    if not first[2] or new.earliest < tonumber(first[2]) then
      wakes = wakes + 1 -- a waiter must learn that it may not sleep past this one
    end
  end
  wake(keys[WAKE], tokens, wakes)
  return { "ok", table.concat(letters) }
end)
