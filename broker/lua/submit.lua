-- submit: take new tasks in, all of a call or none.
--
-- Moves     (nothing) -> ready, or (nothing) -> scheduled
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   n, how many tasks, at most 500
-- ARGV[2]   "1" if the caller gave the ids itself, "0" if pmq has just made them; or, if each stands in a call for the
--           first time, a stamp: producer (8 bytes), epoch (8), number of the call (u64, big endian; see numbered)
-- ARGV[3]   how many shards the caller knows of
-- ARGV[4..] n pairs: id (16 bytes), envelope
-- then      nothing, or n due times: "" now, "+ms" after now, "ms" since the epoch
-- Returns   {"ok", one letter a task: n new, e exists, d ended before}, {"conflict", index of the task},
--           {"full", "tasks" | "completions", limit}, or {"moved"} where the shard is none of a queue of so many: `open`
--           tells; "ok" of a call with a stamp that was not enough to tell that it is new also says the epoch for the
--           calls to come, where there is one
-- Fails     PMQMALFORMED where the number of tasks, an id, a control part or a due time can't be read

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

-- Puts a task whose options or due time are not the usual ones where it belongs; answers its problem, if it has one.
local function add_task(tasks, id, envelope, due)
  if not readable(envelope) then
    return "no readable control part"
  end
  local priority = string.byte(envelope, 4)
  if bit.band(string.byte(envelope, 2), HAS_COMPLETIONS) ~= 0 then
    tasks.names[completions_name(envelope)] = true
  end
  if not due or due == "" then
    local list = tasks.ready[priority] or {}
    tasks.ready[priority] = list
    list[#list + 1] = id
    return nil
  elseif not string.find(due, "^%+?%d+$") then
    return "no readable due time"
  end
  local at = string.sub(due, 1, 1) == "+" and tasks.ms + tonumber(due) or tonumber(due)
  tasks.due[#tasks.due + 1] = time_score(at, priority)
  tasks.due[#tasks.due + 1] = id
  tasks.earliest = math.min(tasks.earliest or at, at)
end

-- Sorts tasks into what the writes need. `fields` are n pairs of id and envelope from `first` on, then their due times.
local function sort_tasks(fields, first, n, ms)
  local usual, ids, largest, sub = {}, {}, 0, string.sub
  local tasks = { n = n, ids = ids, fields = fields, first = first, ms = ms, names = {}, ready = {}, due = {} }
  local scheduled = fields[first + 2 * n] ~= nil
  for i = 1, n do
    local id, envelope = fields[first + 2 * i - 2], fields[first + 2 * i - 1]
    local problem = (not envelope or #id ~= 16) and "no 16-byte id"
    if not problem and not scheduled and sub(envelope, 2, 15) == PLAIN and #envelope >= CONTROL then
      usual[#usual + 1] = id
    else
      tasks.ready[5] = tasks.ready[5] or usual
      problem = problem or add_task(tasks, id, envelope, fields[first + 2 * n + i - 1])
    end
    if problem then
      return nil, redis.error_reply("PMQMALFORMED task " .. i .. " has " .. problem)
    end
    if #envelope > largest then
      largest = #envelope
    end
    ids[i] = id
  end
  tasks.ready[5] = usual[1] and usual
  tasks.largest = largest
  return tasks
end

-- What is kept of a task under this id: the digest of its content, and the letter that tells where it stands.
local function known_as(here, ended, twin, hole)
  if here then
    return string.sub(here, 16, 23), "e"
  elseif ended then
    return string.sub(ended, 7, 14), "d"
  elseif twin then
    return string.sub(twin, 16, 23), "e"
  end
  return nil, hole == 1 and "d" or "n"
end

-- One letter a task, and whether all are new; or the index of the first whose id stands for other bytes.
local function recognise(keys, tasks, buckets, depth)
  local ids, fields, first = tasks.ids, tasks.fields, tasks.first
  local here = redis.call("HMGET", keys[TASKS], unpack(ids))
  local ended = find_records(keys, ids, buckets, depth)
  local holes = redis.call("SCARD", keys[HOLES]) > 0 -- ids still on a list, which would run twice
  holes = holes and redis.call("SMISMEMBER", keys[HOLES], unpack(ids)) or {}
  local letters, mine, all_new = {}, {}, true
  for i = 1, tasks.n do
    local id, letter = ids[i], "n"
    if here[i] or ended[i] or mine[id] or holes[i] == 1 then
      local digest
      digest, letter = known_as(here[i], ended[i], mine[id], holes[i])
      if digest and digest ~= string.sub(fields[first + 2 * i - 1], 16, 23) then
        return nil, i
      end
      all_new = false
    end
    letters[i] = letter
    mine[id] = mine[id] or fields[first + 2 * i - 1]
  end
  return letters, all_new
end

-- The same tasks without those that are known already.
local function only_new(tasks, letters)
  local fields, due, first, n = {}, {}, tasks.first, tasks.n
  for i = 1, n do
    if letters[i] == "n" then
      fields[#fields + 1] = tasks.fields[first + 2 * i - 2]
      fields[#fields + 1] = tasks.fields[first + 2 * i - 1]
      due[#due + 1] = tasks.fields[first + 2 * n + i - 1]
    end
  end
  local count = #fields / 2
  for i = 1, #due do
    fields[2 * count + i] = due[i]
  end
  return sort_tasks(fields, 1, count, tasks.ms)
end

-- What is full, if the new tasks find no room.
local function find_full(keys, new, maxsize, completions, completions_max)
  if maxsize and tonumber(maxsize) > 0 then
    local waiting = redis.call("HLEN", keys[TASKS]) - redis.call("HLEN", keys[RUNNING]) - redis.call("ZCARD", keys[DEAD])
    if waiting + new.n > tonumber(maxsize) then
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

-- Writes new tasks; `m` are the settings. What is of a wrong type fails with the first write or before it.
local function write(keys, new, m, producer)
  local tokens = redis.call("LLEN", keys[WAKE])
  local first = new.due[1] and redis.call("ZRANGE", keys[SCHEDULED], "0", "0", "WITHSCORES")
  local list = next(new.ready)
  if new.due[1] or next(new.ready, list) then
    for priority in pairs(new.ready) do
      redis.call("LLEN", keys[READY + priority])
    end
  end
  for priority, ids in pairs(new.ready) do
    redis.call("RPUSH", keys[READY + priority], unpack(ids))
  end
  redis.call("HSET", keys[TASKS], unpack(new.fields, new.first, new.first + 2 * new.n - 1))
  if not m[1] or new.largest > (tonumber(m[2]) or 0) then
    redis.call("HSET", keys[META], "layout", LAYOUT, "largest", whole(math.max(new.largest, tonumber(m[2]) or 0)))
  end
  local wakes = new.n
  if first then
    redis.call("ZADD", keys[SCHEDULED], unpack(new.due))
    local is_earliest = not first[2] or new.earliest < tonumber(first[2])
    wakes = wakes - #new.due / 2 + (is_earliest and 1 or 0) -- a waiter must learn that it may not sleep past this one
  end
  wake(keys[WAKE], tokens, wakes)
  write_producer(producer)
end

register("submit", {}, function(keys, args)
  local n = tonumber(args[1])
  local m, problem = settings(keys, "largest", "buckets", "maxsize", "completions", "completions_max", "shards")
  if not m then
    return problem
  elseif is_elsewhere(m[7], args[3]) then
    return { "moved" }
  elseif not n or n < 1 or n > CHUNK then
    return redis.error_reply("PMQMALFORMED a call takes 1 to " .. CHUNK .. " tasks")
  end
  local ms = args[4 + 2 * n] and clock() -- only a due time needs it
  local new
  new, problem = sort_tasks(args, 4, n, ms)
  if not new then
    return problem
  end
  local producer = find_producer(keys, args[2], m[3])
  local letters
  if producer.first then
    redis.call("HLEN", keys[TASKS]) -- a wrong type fails here, before the first write
    letters = string.rep("n", n)
  else
    local all_new
    letters, all_new = recognise(keys, new, m[3], args[2] ~= "1" and 2 or nil)
    if not letters then
      return { "conflict", all_new }
    elseif not all_new then
      new = only_new(new, letters)
    end
    letters = table.concat(letters)
  end
  if new.n > 0 then
    local full = find_full(keys, new, m[4], m[5], m[6])
    if full then
      return full
    end
    write(keys, new, m, producer)
  end
  return { "ok", letters, not producer.first and producer.epoch or nil }
end)
