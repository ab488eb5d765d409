-- claim: hand ready tasks to a worker, under its lease. This is get_nowait.
--
-- Moves     scheduled -> ready (what is due), ready -> running
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   worker's incarnation (16 bytes)
-- ARGV[2]   number of the claim: the last number again answers the same tasks, a lower one nothing
-- ARGV[3]   how many tasks, 1 to 500
-- ARGV[4]   lease (ms)
-- ARGV[5]   name of the worker's completion queue, or ""
-- ARGV[6]   "1" if the worker holds no suspect and may take one
-- ARGV[7]   "1" if the worker is going to wait where nothing is ready
-- Returns   {"ok", now (ms), wait (ms, "" for as long as it likes), "1" if a lease has ended,
--            common part of the running values, {id, envelope, rest of the running value, ...}}, or {"lost"}

-- Due tasks become ready, at most 500 a call.
local function promote(keys, ms)
  local due = redis.call("ZRANGEBYSCORE", keys[SCHEDULED], "-inf", "(" .. whole(ms + 1), "WITHSCORES", "LIMIT", "0", CHUNK)
  if not due[1] then
    return
  end
  local ids, lists = {}, {}
  for i = 1, #due, 2 do
    local priority = math.floor(due[i + 1] % 1 * 16)
    local list = lists[priority]
    if not list then
      redis.call("LLEN", keys[READY + priority]) -- a wrong type fails here, before the first write
      list = {}
      lists[priority] = list
    end
    list[#list + 1] = due[i]
    ids[#ids + 1] = due[i]
  end
  for priority, list in pairs(lists) do
    redis.call("RPUSH", keys[READY + priority], unpack(list))
  end
  redis.call("ZREM", keys[SCHEDULED], unpack(ids))
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

-- Reads the bodies of popped ids into `got` until 1 MiB; what is over goes back to the head of its list.
local function read_bodies(keys, got, list, ids, largest)
  local fits = #ids
  if (#got.ids + #ids) * largest > CHUNK_BYTES then
    for i, id in ipairs(ids) do
      local length = redis.call("HSTRLEN", keys[TASKS], id)
      if got.bytes + length > CHUNK_BYTES and (#got.ids > 0 or i > 1) then
        fits = i - 1
        break
      end
      got.bytes = got.bytes + length
    end
  end
  local envelopes = fits > 0 and redis.call("HMGET", keys[TASKS], unpack(ids, 1, fits)) or {}
  for i = 1, fits do
    if envelopes[i] then
      got.ids[#got.ids + 1] = ids[i]
      got.envelopes[#got.envelopes + 1] = envelopes[i]
    else
      got.missing[#got.missing + 1] = ids[i]
    end
  end
  for i = #ids, fits + 1, -1 do
    redis.call("LPUSH", list, ids[i])
  end
  got.full = got.full or fits < #ids
end

-- Pops up to n live tasks, highest priority first; gives up after 500 holes, to keep the call short.
local function pop(keys, n, suspect, largest)
  local got = { ids = {}, envelopes = {}, missing = {}, bytes = 0 }
  if suspect then
    redis.call("LPOP", keys[SUSPECTS])
    read_bodies(keys, got, keys[SUSPECTS], { suspect }, largest)
    got.suspect = #got.ids == 1
  end
  local skipped = 0
  while #got.ids < n and not got.full do
    local before = #got.missing
    local popped = redis.call(
      "LMPOP", "10",
      keys[READY + 9], keys[READY + 8], keys[READY + 7], keys[READY + 6], keys[READY + 5],
      keys[READY + 4], keys[READY + 3], keys[READY + 2], keys[READY + 1], keys[READY],
      "LEFT", "COUNT", n - #got.ids
    )
    if not popped then
      got.empty = true
      break
    end
    read_bodies(keys, got, popped[1], popped[2], largest)
    if #got.missing > before then
      skipped = skipped + #got.missing - before + skip_holes(keys, popped[1])
      if skipped >= CHUNK then
        got.again = true
        break
      end
    end
  end
  if #got.missing > 0 then
    redis.call("SREM", keys[HOLES], unpack(got.missing))
  end
  return got
end

-- What a running value says beyond the part that all tasks of the claim share; "" for a plain first attempt.
local function tail(keys, envelope, attempts)
  if not readable(envelope) then
    return ""
  end
  local options = string.sub(envelope, 2, 15)
  if options == PLAIN and not attempts then
    return ""
  end
  local used = parse_attempts(attempts)
  local flags = struct.unpack("<H", envelope, 2)
  local more = string.sub(envelope, CONTROL + 1, CONTROL + optional_length(envelope, flags))
  if used.crashes >= SUSPECT_CRASHES then
    flags = bit.bor(flags, SUSPECT)
  end
  if bit.band(flags, HAS_OWNER) ~= 0 then
    local at = bit.band(flags, HAS_EXPIRY) ~= 0 and 9 or 1
    if not live_row(keys, string.sub(more, at, at + 15)) then
      flags = bit.bor(flags, ORPHAN)
    end
  end
  options = struct.pack("<H", flags) .. string.sub(options, 3)
  return struct.pack("<H", used.failures + used.crashes + 1) .. options .. more
end

-- The tasks of the worker's last claim that it still holds, for a claim whose reply was lost.
local function replay(keys, worker, log)
  local ids, tasks, common = {}, {}, ""
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
        tasks[#tasks + 1] = string.sub(value, base + 1)
      end
    end
  end
  return common, tasks
end

-- How long an idle worker may wait: until the next task is due or the next lease ends, told to one waiter
-- at a time; the others wait as long as they like.
local function elect(keys, worker, ms, lease, ended, deadline, m)
  local first = redis.call("ZRANGE", keys[SCHEDULED], "0", "0", "WITHSCORES")
  local at = first[2] and math.floor(first[2]) or nil
  if ended then
    at = ms + math.ceil(lease / 5)
  elseif deadline then
    at = math.min(at or deadline, deadline)
  end
  if not at then
    return ""
  end
  local holder, until_ms = m[1], tonumber(m[2]) or 0
  if holder and holder ~= worker and until_ms > ms and until_ms <= at + 1000 then
    return ""
  end
  redis.call("HSET", keys[META], "waiter", worker, "waiter_until", whole(at + 1000))
  return whole(math.max(at - ms, 1))
end

-- Leaves the wake list as the ready lists want it: one more token where tasks are left, none where none is.
local function chain(keys, got, n, tokens)
  if got.empty then
    if tokens > 0 and redis.call("LLEN", keys[SUSPECTS]) == 0 then
      redis.call("DEL", keys[WAKE])
    end
  elseif tokens == 0 and (#got.ids == n or got.full or got.again) then
    local ready = redis.call("HLEN", keys[TASKS]) - redis.call("HLEN", keys[RUNNING])
      - redis.call("ZCARD", keys[SCHEDULED]) - redis.call("ZCARD", keys[DEAD])
    if ready > 0 then
      redis.call("RPUSH", keys[WAKE], "1")
    end
  end
end

-- Puts the popped tasks under the worker's lease; answers the common part of their running values and the reply.
local function hold(keys, args, got, us, m, attempts)
  local worker = args[1]
  local token = math.max((tonumber(m.token) or 0) + 1, us)
  local name = args[5] ~= "" and args[5] or m.completions or ""
  local common = worker .. struct.pack("<I8", token) .. string.char(#name) .. name
  local rows = attempts and redis.call("HMGET", keys[ATTEMPTS], unpack(got.ids)) or {}
  local fields, tasks = {}, {}
  for i, id in ipairs(got.ids) do
    local rest = tail(keys, got.envelopes[i], rows[i])
    fields[2 * i - 1] = id
    fields[2 * i] = rest == "" and common or common .. rest
    tasks[3 * i - 2], tasks[3 * i - 1], tasks[3 * i] = id, got.envelopes[i], rest
  end
  redis.call("HSET", keys[RUNNING], unpack(fields))
  redis.call("HSET", keys[CLAIMS], worker, struct.pack("<I4", args[2]) .. "w" .. table.concat(got.ids))
  redis.call("HSET", keys[META], "token", whole(token))
  return common, tasks
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
  local last = log and struct.unpack("<I4", log) or -1
  if number <= last then
    local common, tasks = "", {}
    if number == last then
      common, tasks = replay(keys, worker, log)
    end
    return { "ok", whole(ms), "1", "0", common, tasks }
  end
  local tokens = redis.call("LLEN", keys[WAKE])
  local ended, deadline = next_lease_end(keys, ms)
  local suspect = redis.call("LINDEX", keys[SUSPECTS], "0")
  local attempts = redis.call("HLEN", keys[ATTEMPTS]) > 0
  local done = args[5] ~= "" and args[5] or m[6]
  local blocked = m[2] or (done and redis.call("LLEN", part(keys, "done:" .. done)) >= (tonumber(m[7]) or 1000000))
  redis.call("HLEN", keys[TASKS]) -- wrong types fail here, before the first write
  redis.call("HLEN", keys[RUNNING])
  redis.call("SCARD", keys[HOLES])
  local room = m[10] and redis.call("LLEN", keys[ROOM])

  redis.call("HSET", keys[META], seen(m[4], ms, lease))
  local reply = { "ok", whole(ms), "", ended and "1" or "0", "", {} }
  if blocked then
    return reply
  end
  promote(keys, ms)
  local got = pop(keys, n, args[6] == "1" and suspect, tonumber(m[5]) or 0)
  if #got.ids > 0 then
    reply[5], reply[6] = hold(keys, args, got, us, { token = m[3], completions = m[6] }, attempts)
    redis.call("ZADD", keys[WORKERS], whole(ms + lease), worker)
    if room == 0 then
      redis.call("RPUSH", keys[ROOM], "1")
    end
  end
  chain(keys, got, n, tokens)
  if got.again or got.full then
    reply[3] = "0"
  elseif #got.ids == 0 and args[7] == "1" then
    reply[3] = elect(keys, worker, ms, lease, ended, deadline, { m[8], m[9] })
  end
  return reply
end)
