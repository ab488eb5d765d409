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
-- ARGV[7]   "1" if the worker is going to wait where nothing is ready
-- Returns   {"ok", now (ms), wait (ms, "" for as long as it likes), "1" if a lease has ended,
--            common part of the running values, {id, envelope, ...}, rests of the running values}, or {"lost"};
--            the rests, one a task, are missing where all are empty

-- Everything that a claim may pop, read before the first write: how many ids stand on each list, and what is due.
local function survey(keys, ms, attempts)
  local s = { lengths = { [SUSPECTS] = redis.call("LLEN", keys[SUSPECTS]) }, due = {}, lists = {} }
  -- How many lists there are is one call, so only those that may be there are asked one by one, the usual one first.
  local there = redis.call("EXISTS", unpack(keys, READY, READY + 9))
  for i = 0, 9 do
    local list = READY + (i + 5) % 10
    s.lengths[list] = there > 0 and redis.call("LLEN", keys[list]) or 0
    there = there - (s.lengths[list] > 0 and 1 or 0)
  end
  local due = redis.call("ZRANGEBYSCORE", keys[SCHEDULED], "-inf", "(" .. whole(ms + 1), "WITHSCORES", "LIMIT", "0", CHUNK)
  if not due[1] then
    return s
  end
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

-- Removes the cancelled ids at the head of a list, at most 500; answers how many.
local function skip_holes(keys, list)
  local ids = redis.call("LRANGE", list, "0", CHUNK - 1)
  if not ids[1] then
    return 0
  end
  local hole = redis.call("SMISMEMBER", keys[HOLES], unpack(ids))
  local count = 0
  while hole[count + 1] == 1 do
    count = count + 1
  end
  if count > 0 then
    redis.call("LTRIM", list, count, "-1")
    redis.call("SREM", keys[HOLES], unpack(ids, 1, count))
  end
  return count
end

-- How many of these popped ids have bodies that fit into the claim's 1 MiB; the first body always fits.
local function count_fitting(keys, got, ids, largest)
  if got.bytes + #ids * largest <= CHUNK_BYTES then
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

-- Adds the popped tasks to `got` whose bodies are there; answers the ids that were holes. What is no id of ours counts
-- as one.
local function add_live(got, ids, envelopes, fits)
  local missing, into, bodies, n, bytes = {}, got.ids, got.envelopes, #got.ids, got.bytes
  for i = 1, fits do
    local id, envelope = ids[i], envelopes[i]
    if envelope and #id == 16 then
      n = n + 1
      into[n], bodies[n] = id, envelope
      bytes = bytes + #envelope
    else
      missing[#missing + 1] = id
    end
  end
  got.bytes = bytes
  return missing
end

-- Reads the bodies of popped ids into `got`, as far as they fit, and puts the others back; answers how many ids
-- were holes.
local function read_bodies(keys, got, list, ids)
  local fits = count_fitting(keys, got, ids, got.largest)
  local envelopes = fits > 0 and redis.call("HMGET", keys[TASKS], unpack(ids, 1, fits)) or {}
  local missing = add_live(got, ids, envelopes, fits)
  for i = #ids, fits + 1, -1 do
    redis.call("LPUSH", keys[list], ids[i])
  end
  if #missing > 0 then
    redis.call("SREM", keys[HOLES], unpack(missing))
  end
  got.lengths[list] = got.lengths[list] - fits
  got.full = got.full or fits < #ids
  return #missing
end

-- Pops live tasks off one list until the claim has n; gives up after 500 holes, to keep the call short.
local function pop(keys, got, list, n)
  while #got.ids < n and got.lengths[list] > 0 and not got.full and got.skipped < CHUNK do
    local ids = redis.call("LPOP", keys[list], math.min(n - #got.ids, got.lengths[list]))
    local missing = read_bodies(keys, got, list, ids)
    if missing > 0 then
      local more = skip_holes(keys, keys[list])
      got.lengths[list] = got.lengths[list] - more
      got.skipped = got.skipped + missing + more
    end
  end
end

-- Pops up to n live tasks: one suspect where the worker may take one, then the highest priority first.
local function pop_all(keys, s, n, suspect, largest)
  local got = { ids = {}, envelopes = {}, bytes = 0, skipped = 0, lengths = s.lengths, largest = largest, left = 0 }
  if suspect then
    pop(keys, got, SUSPECTS, 1)
  end
  for list = READY + 9, READY, -1 do
    pop(keys, got, list, n)
    got.left = got.left + got.lengths[list]
  end
  return got
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
  for at = 6, #log, 16 do
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

-- How long an idle worker may wait: until the next task is due or the next lease ends. It is told to one waiter at
-- a time, who then holds the watch; the others wait as long as they like.
local function elect(keys, worker, ms, lease, ended, deadline, m)
  local first = redis.call("ZRANGE", keys[SCHEDULED], "0", "0", "WITHSCORES")
  local at = first[2] and math.floor(first[2]) or nil
  if ended then
    at = ms + math.ceil(lease / 5)
  elseif deadline then
    at = math.min(at or deadline, deadline)
  end
  local holder, until_ms = m[1], tonumber(m[2]) or 0
  if not at or (holder and holder ~= worker and until_ms > ms and until_ms <= at + 1000) then
    return nil
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
  if got.left + got.lengths[SUSPECTS] == 0 then
    if tokens > 0 then
      redis.call("DEL", keys[WAKE])
    end
  elseif tokens == 0 and (#got.ids > 0 or got.left > 0) then
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

-- Puts the popped tasks under the worker's lease; answers the common part of their running values, the tasks, and what
-- each adds to it.
local function hold(keys, args, got, us, m, attempts)
  local worker, ids, envelopes = args[1], got.ids, got.envelopes
  local token = math.max((tonumber(m.token) or 0) + 1, us)
  local name = args[5] ~= "" and args[5] or m.completions or ""
  local common = worker .. struct.pack("<I8", token) .. string.char(#name) .. name
  local rests = rests_of(keys, got, attempts)
  local fields, tasks = {}, {}
  for i = 1, #ids do
    local id, at = ids[i], 2 * i
    fields[at - 1], fields[at] = id, rests and common .. rests[i] or common
    tasks[at - 1], tasks[at] = id, envelopes[i]
  end
  redis.call("HSET", keys[RUNNING], unpack(fields))
  redis.call("HSET", keys[CLAIMS], worker, struct.pack("<I4", args[2]) .. "w" .. table.concat(ids))
  redis.call("HSET", keys[META], "token", whole(token))
  return common, tasks, rests
end

register("claim", { "allow-oom" }, function(keys, args)
  local worker, number, n, lease = args[1], tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  local m, problem = settings(
    keys, "paused", "token", "seen", "largest", "completions", "completions_max", "waiter", "waiter_until", "maxsize"
  )
  if not m then
    return problem
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
  local attempts = redis.call("HLEN", keys[ATTEMPTS]) > 0
  local done = args[5] ~= "" and args[5] or m[6]
  local blocked = m[2] or (done and redis.call("LLEN", part(keys, "done:" .. done)) >= (tonumber(m[7]) or 1000000))
  local s = not blocked and survey(keys, ms, attempts)
  redis.call("HLEN", keys[TASKS]) -- wrong types fail here, before the first write
  redis.call("HLEN", keys[RUNNING])
  redis.call("SCARD", keys[HOLES])
  local room = room_tokens(keys, m[10])

  redis.call("HSET", keys[META], seen(m[4], ms, lease))
  local reply = { "ok", whole(ms), "", ended and "1" or "0", "", {} }
  if blocked then
    return reply
  end
  promote(keys, s)
  local got = pop_all(keys, s, n, args[6] == "1", tonumber(m[5]) or 0)
  if #got.ids > 0 then
    reply[5], reply[6], reply[7] = hold(keys, args, got, us, { token = m[3], completions = m[6] }, attempts)
    redis.call("ZADD", keys[WORKERS], whole(ms + lease), worker)
    tell_room(keys, room)
  end
  chain(keys, got, tokens)
  local wait = nil
  if #got.ids < n and got.left > 0 then
    wait = "0"
  elseif #got.ids == 0 and args[7] == "1" then
    wait = elect(keys, worker, ms, lease, ended, deadline, { m[8], m[9] })
  end
  if m[8] == worker and (not wait or wait == "0") then
    resign(keys, #got.ids == n)
  end
  reply[3] = wait or ""
  return reply
end)
