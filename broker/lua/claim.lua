-- claim: hand ready tasks to a worker, under its lease. This is get_nowait.
--
-- Moves     scheduled -> ready or suspects (what is due), ready or suspects -> running
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   worker's incarnation (16 bytes)
-- ARGV[2]   number of the claim, used up when it brings tasks: the last number again answers the same tasks, a
--           lower one nothing
-- ARGV[3]   how many tasks, 1 to 500
-- ARGV[4]   lease (ms)
-- ARGV[5]   name of the worker's completion queue, or ""
-- ARGV[6]   "1" if the worker holds no suspect and may take one
-- ARGV[7]   "1" if the worker is going to wait where nothing more is ready
-- ARGV[8]   how many shards the worker knows of; 1 where it is missing
-- Returns   {"ok", now (ms), wait (ms; "0": tasks are left, or nobody watches the clock, so claim again as soon as a slot
--            is free; "": wait for a token for as long as it likes), "1" if a lease has ended,
--            common part of the running values, {id, envelope, ...}, rests of the running values}, {"lost"}, or {"moved"}
--            where the shard is none of a queue of so many;
--            the rests, one a task, are missing where all are empty

-- How many ids stand on each list, and whether any task has used attempts. How many of these keys are there is one call,
-- so only those that may be are asked one by one, the usual list first.
local function count_lists(keys)
  local there = redis.call("EXISTS", keys[SUSPECTS], keys[ATTEMPTS], unpack(keys, READY, READY + 9))
  local lengths, attempts = {}, false
  for i = 0, 10 do
    local list = i == 10 and SUSPECTS or READY + (i + 5) % 10
    lengths[list] = there > 0 and redis.call("LLEN", keys[list]) or 0
    there = there - (lengths[list] > 0 and 1 or 0)
    if i == 0 and there > 0 then
      attempts = redis.call("HLEN", keys[ATTEMPTS]) > 0
      there = there - (attempts and 1 or 0)
    end
  end
  return lengths, attempts
end

-- Everything that a claim may take, read before the first write: how many ids stand on each list, and what is due.
local function survey(keys, ms)
  local lengths, attempts = count_lists(keys)
  local s = { lengths = lengths, attempts = attempts, due = {}, lists = {} }
  local due = redis.call("ZRANGEBYSCORE", keys[SCHEDULED], "-inf", "(" .. whole(ms + 1), "WITHSCORES", "LIMIT", "0", CHUNK)
  if not due[1] then
    return s
  end
  redis.call("HLEN", keys[TASKS]) -- wrong types fail here: promoting is the first write
  redis.call("HLEN", keys[RUNNING])
  redis.call("SCARD", keys[HOLES])
  for i = 1, #due, 2 do
    s.due[#s.due + 1] = due[i]
  end
  local rows = attempts and redis.call("HMGET", keys[ATTEMPTS], unpack(s.due)) or {}
  for i, id in ipairs(s.due) do
    local suspect = parse_attempts(rows[i]).crashes >= SUSPECT_CRASHES
    local list = suspect and SUSPECTS or READY + score_priority(due[2 * i])
    s.lists[list] = s.lists[list] or {}
    table.insert(s.lists[list], id)
  end
  return s
end

-- Due tasks become ready, at most 500 a call.
local function promote(keys, s)
  for list, ids in pairs(s.lists) do
    s.lengths[list] = redis.call("RPUSH", keys[list], unpack(ids))
  end
  if s.due[1] then
    redis.call("ZREM", keys[SCHEDULED], unpack(s.due))
  end
end

-- Passes over the cancelled ids that come next on a list, at most 500; answers how many.
local function skip_holes(keys, got, list, from)
  local ids = redis.call("LRANGE", keys[list], from, from + CHUNK - 1)
  if not ids[1] then
    redis.call("SCARD", keys[HOLES]) -- a wrong type fails here, before the first write
    return 0
  end
  local hole = redis.call("SMISMEMBER", keys[HOLES], unpack(ids))
  local count = 0
  while hole[count + 1] == 1 do
    count = count + 1
    got.missing[#got.missing + 1] = ids[count]
  end
  return count
end

-- How many of these ids have bodies that fit into the claim's 1 MiB; the first body always fits.
local function count_fitting(keys, got, ids)
  if got.bytes + #ids * got.largest <= CHUNK_BYTES then
    return #ids
  end
  local bytes = got.bytes
  for i, id in ipairs(ids) do
    local length = redis.call("HSTRLEN", keys[TASKS], id)
    if bytes > 0 and bytes + length > CHUNK_BYTES then
      return i - 1
    end
    bytes = bytes + length
  end
  return #ids
end

-- Adds the tasks to `got` whose bodies are there; answers how many ids were holes. What is no id of ours counts as one.
local function add_live(got, ids, envelopes, fits)
  local missing, into, bodies, n, bytes = 0, got.ids, got.envelopes, #got.ids, got.bytes
  for i = 1, fits do
    local id, envelope = ids[i], envelopes[i]
    if envelope and #id == 16 then
      n = n + 1
      into[n], bodies[n] = id, envelope
      bytes = bytes + #envelope
    else
      missing = missing + 1
      got.missing[#got.missing + 1] = id
    end
  end
  got.bytes = bytes
  return missing
end

-- Reads live tasks off the head of one list until the claim has n; gives up after 500 holes, to keep the call short.
local function gather(keys, got, list, n)
  local at, length = 0, got.lengths[list]
  while #got.ids < n and at < length and not got.full and got.skipped < CHUNK do
    local ids = redis.call("LRANGE", keys[list], at, at + n - #got.ids - 1)
    local fits = count_fitting(keys, got, ids)
    local envelopes = fits > 0 and redis.call("HMGET", keys[TASKS], unpack(ids, 1, fits)) or {}
    local missing = add_live(got, ids, envelopes, fits)
    at = at + fits
    got.full = fits < #ids
    if missing > 0 then
      local more = skip_holes(keys, got, list, at)
      at = at + more
      got.skipped = got.skipped + missing + more
    end
  end
  if at > 0 then
    got.heads[list] = at
  end
  return length - at
end

-- Reads up to n live tasks: one suspect where the worker may take one, then the highest priority first.
local function gather_all(keys, s, n, suspect, largest)
  local got = { ids = {}, envelopes = {}, bytes = 0, skipped = 0, missing = {}, heads = {}, lengths = s.lengths }
  got.largest, got.left = largest, 0
  local suspects = s.lengths[SUSPECTS]
  if suspect and suspects > 0 then
    suspects = gather(keys, got, SUSPECTS, 1)
  end
  for list = READY + 9, READY, -1 do
    got.left = got.left + (s.lengths[list] > 0 and gather(keys, got, list, n) or 0)
  end
  got.ready = got.left
  got.left = got.left + suspects
  return got
end

-- Takes what was read off the lists.
local function take_heads(keys, got)
  for list, count in pairs(got.heads) do
    redis.call("LTRIM", keys[list], count, "-1")
  end
  for i = 1, #got.missing, CHUNK do
    redis.call("SREM", keys[HOLES], unpack(got.missing, i, math.min(i + CHUNK - 1, #got.missing)))
  end
end

local function optional_part(envelope)
  local flags = struct.unpack("<H", envelope, 2)
  return string.sub(envelope, CONTROL + 1, CONTROL + optional_length(envelope, flags))
end

-- What a running value says of these options, an envelope's bytes 2 to 15, and optional fields.
local function tail(w, options, more, used)
  local flags = struct.unpack("<H", options)
  if used.crashes >= SUSPECT_CRASHES then
    flags = bit.bor(flags, SUSPECT)
  end
  if bit.band(flags, HAS_OWNER) ~= 0 then
    local at = bit.band(flags, HAS_EXPIRY) ~= 0 and 9 or 1
    if not lives(w.owners, w.keys, string.sub(more, at, at + 15)) then
      flags = bit.bor(flags, ORPHAN)
    end
  end
  options = struct.pack("<H", flags) .. string.sub(options, 3)
  return struct.pack("<H", used.failures + used.crashes + 1) .. options .. more
end

-- The same where no task has used attempts: the tasks of a call that are alike have it in common.
local function first_tail(w, options, more)
  local alike = options .. more
  local known = w.tails[alike]
  if not known then
    known = tail(w, options, more, parse_attempts())
    w.tails[alike] = known
  end
  return known
end

-- What the running value of a task says beyond the part that all tasks of the claim share, where its options are not
-- the usual ones or it has used attempts.
local function rest_of(w, envelope, attempts)
  if not readable(envelope) then
    return ""
  end
  local options = string.sub(envelope, 2, 15)
  if attempts then
    return tail(w, options, optional_part(envelope), parse_attempts(attempts))
  end
  return first_tail(w, options, optional_part(envelope))
end

-- The tasks of the worker's last claim that it still holds, for a claim whose reply was lost.
local function replay(keys, worker, log)
  local ids, tasks, rests, common = {}, {}, {}, ""
  for at = 14, #log, 16 do
    ids[#ids + 1] = string.sub(log, at, at + 15)
  end
  if #ids > 0 then
    local values = redis.call("HMGET", keys[RUNNING], unpack(ids))
    local envelopes = redis.call("HMGET", keys[TASKS], unpack(ids))
    for i, value in ipairs(values) do
      if value and envelopes[i] and string.sub(value, 1, 16) == worker then
        local base = 25 + string.byte(value, 25)
        common = string.sub(value, 1, base)
        tasks[#tasks + 1] = ids[i]
        tasks[#tasks + 1] = envelopes[i]
        rests[#rests + 1] = string.sub(value, base + 1)
      end
    end
  end
  return common, tasks, rests
end

-- When the next task is due or the next lease ends; nil where neither is to come.
local function next_event(keys, ms, lease, ended, deadline)
  if ended then
    return ms + math.ceil(lease / 5)
  end
  local first = redis.call("ZRANGE", keys[SCHEDULED], "0", "0", "WITHSCORES")
  local at = first[2] and math.floor(first[2]) or deadline
  return deadline and math.min(at, deadline) or at
end

-- How long a worker may wait that has a free slot, until `at`. It is told to one waiter at a time, who then holds the
-- watch; the others wait as long as they like. A worker without a free slot can't hold it and claims again, "0", unless
-- another does.
local function elect(keys, worker, ms, at, m, full)
  local holder, until_ms = m[1], tonumber(m[2]) or 0
  if not at or (holder and holder ~= worker and until_ms > ms and until_ms <= at + 1000) then
    return nil
  elseif full then
    return "0"
  end
  redis.call("HSET", keys[META], "waiter", worker, "waiter_until", whole(at + 1000))
  return whole(math.max(at - ms, 1))
end

-- Ends the watch of a worker that does not wait; with all its slots full it will not be back soon, so somebody
-- else is woken to take the watch over.
local function resign(keys, full)
  redis.call("HDEL", keys[META], "waiter", "waiter_until")
  if full and redis.call("LLEN", keys[WAKE]) == 0 then
    redis.call("RPUSH", keys[WAKE], "1")
  end
end

-- Leaves the wake list as the lists want it: one more token where tasks are left, none where none is.
local function chain(keys, got, tokens)
  if got.left == 0 then
    if tokens > 0 then
      redis.call("DEL", keys[WAKE])
    end
  elseif tokens == 0 and (#got.ids > 0 or got.ready > 0) then
    redis.call("RPUSH", keys[WAKE], "1")
  end
end

-- What each popped task adds to the common part of the running values; nil where none adds anything.
local function rests_of(keys, got, attempts)
  local envelopes, sub, usual = got.envelopes, string.sub, not attempts
  for i = 1, usual and #envelopes or 0 do
    if sub(envelopes[i], 2, 15) ~= PLAIN then
      usual = false
      break
    end
  end
  if usual then
    return nil
  end
  local rows = attempts and redis.call("HMGET", keys[ATTEMPTS], unpack(got.ids)) or {}
  local rests, w = {}, { keys = keys, owners = {}, tails = {} }
  for i, envelope in ipairs(envelopes) do
    local plain = not rows[i] and sub(envelope, 2, 15) == PLAIN
    rests[i] = plain and "" or rest_of(w, envelope, rows[i])
  end
  return rests
end

-- Puts tasks under the worker's lease; answers the common part of their running values, the tasks, and what each adds to
-- it.
local function hold(keys, args, got, token, m, attempts)
  local worker, ids, envelopes = args[1], got.ids, got.envelopes
  local name = args[5] ~= "" and args[5] or m[6] or ""
  local common = worker .. struct.pack("<I8", token) .. string.char(#name) .. name
  local rests = rests_of(keys, got, attempts)
  local fields, tasks = {}, {}
  for i = 1, #ids do
    local id, at = ids[i], 2 * i
    fields[at - 1], fields[at] = id, rests and common .. rests[i] or common
    tasks[at - 1], tasks[at] = id, envelopes[i]
  end
  redis.call("HSET", keys[RUNNING], unpack(fields))
  redis.call("HSET", keys[CLAIMS], worker, struct.pack("<I4c1I8", args[2], "w", token) .. table.concat(ids))
  return common, tasks, rests
end

register("claim", { "allow-oom" }, function(keys, args)
  local worker, number, n, lease = args[1], tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  local m, problem = settings(
    keys, "paused", "token", "seen", "largest", "completions", "completions_max", "waiter", "waiter_until", "maxsize",
    "shards"
  )
  if not m then
    return problem
  elseif is_elsewhere(m[11], args[8] or "1") then
    return { "moved" }
  end
  local ms, us = clock()
  local row = redis.call("ZSCORE", keys[WORKERS], worker)
  if row and tonumber(row) < 0 then
    return { "lost" }
  end
  local log = redis.call("HGET", keys[CLAIMS], worker)
  local last = last_number(log)
  if number <= last then
    local common, tasks, rests = "", {}, nil
    if number == last then
      common, tasks, rests = replay(keys, worker, log)
    end
    return { "ok", whole(ms), "1", "0", common, tasks, rests }
  end
  local tokens = redis.call("LLEN", keys[WAKE])
  local ended, deadline = next_lease_end(keys, ms)
  if deadline and (m[11] or "1") ~= "1" then
    -- One shard of several: nobody else may call here, and a longer silence looks as if the broker had been away.
    deadline = math.min(deadline, ms + math.ceil(lease / 5))
  end
  local done = args[5] ~= "" and args[5] or m[6]
  local blocked = m[2] or (done and redis.call("LLEN", part(keys, "done:" .. done)) >= (tonumber(m[7]) or 1000000))
  local reply = { "ok", whole(ms), "", ended and "1" or "0", "", {} }
  if blocked then
    redis.call("HSET", keys[META], seen(m[4], ms, lease))
    return reply
  end
  local s, room = survey(keys, ms), room_tokens(keys, m[10])

  promote(keys, s)
  local got = gather_all(keys, s, n, args[6] == "1", tonumber(m[5]) or 0)
  if #got.ids > 0 then
    local token = next_token(m[3], us)
    reply[5], reply[6], reply[7] = hold(keys, args, got, token, m, s.attempts)
    redis.call("ZADD", keys[WORKERS], whole(ms + lease), worker)
    redis.call("HSET", keys[META], "token", whole(token), seen(m[4], ms, lease))
    tell_room(keys, room)
  else
    redis.call("HSET", keys[META], seen(m[4], ms, lease))
  end
  take_heads(keys, got)
  chain(keys, got, tokens)
  -- What brought tasks and leaves none may be followed by a wait like one that found none: whatever becomes ready after
  -- this call leaves a token of its own.
  local full, wait = #got.ids == n, nil
  if got.ready > 0 or full and got.left > 0 then -- a suspect may be for the next free slot
    wait = "0"
  elseif args[7] == "1" then
    deadline = deadline or #got.ids > 0 and ms + lease or nil -- by now it has a lease itself
    wait = elect(keys, worker, ms, next_event(keys, ms, lease, ended, deadline), { m[8], m[9] }, full)
  end
  if m[8] == worker and (not wait or wait == "0") then
    resign(keys, full)
  end
  reply[3] = wait or ""
  return reply
end)
