-- lib: what the functions share. Every function of the task system gets the same keys, those of one
-- shard, in this order; so each fixed key is declared, also those that may not exist yet. One more, the last, never
-- exists: while the slot moves to another node it makes Redis refuse the call before it begins (TRYAGAIN).

local PREFIX = "pmq1_" -- the library's number: it changes with the sources (see library.lock)
local LAYOUT = "1" -- of the data; a newer one is refused

local META, TASKS, RUNNING, SCHEDULED, WORKERS, CLAIMS, ATTEMPTS = 1, 2, 3, 4, 5, 6, 7
local DEAD, ERRORS, CANCELS, WATCHERS, WAKE, ROOM, SUSPECTS, HOLES, NAMES = 8, 9, 10, 11, 12, 13, 14, 15, 16
local LOGS, LOG_SIZES, STARTED = 17, 18, 19
local READY = 20 -- keys[READY + p] is the list of priority p, 0 to 9

local CHUNK = 500 -- items a call, far below where unpack fails
local CHUNK_BYTES = 1048576
local WAKE_MAX = 256 -- tokens: enough to start a fleet, and flat whatever the backlog
local SUSPECT_CRASHES = 2

local CONTROL = 27 -- bytes of an envelope before its optional fields
local HAS_EXPIRY, HAS_OWNER, HAS_COMPLETIONS, DISCARD, PROCESS, SUSPECT, ORPHAN = 1, 2, 4, 8, 16, 16384, 32768
local PLAIN = "\0\0\5\4\0\3\232\3\0\0\192\39\9\0" -- bytes 2 to 15 of an envelope whose options are the defaults
local VERDICT, SIGNED_VERDICT = 22, 58 -- bytes of a completion that its record always keeps; with a signature, of a version above 1
local NO_EXIT = -2147483648

local function register(verb, flags, callback)
  local check = checker(verb)
  local function checked(keys, args)
    return check(args) or callback(keys, args)
  end
  redis.register_function({ function_name = PREFIX .. verb, callback = checked, flags = flags })
end

-- Server time in ms and in µs since the epoch: no client clock decides anything.
local function clock()
  local t = redis.call("TIME")
  return t[1] * 1000 + math.floor(t[2] / 1000), t[1] * 1000000 + t[2]
end

local function whole(number)
  return string.format("%.0f", number)
end

local function newer(layout)
  return redis.error_reply("PMQLAYOUT the queue has data layout " .. layout .. ", this library knows " .. LAYOUT)
end

-- Reads settings; the first is the layout. Answers nil and the error where it is not ours.
local function settings(keys, ...)
  local values = redis.call("HMGET", keys[META], "layout", ...)
  if values[1] and values[1] ~= LAYOUT then
    return nil, newer(values[1])
  end
  return values
end

-- Whether a caller that knows of so many shards looks for the queue where it is no more: it was deleted, and may have been made
-- again with another number of them; or where nobody has used this shard yet.
local function is_elsewhere(shards, known)
  return (shards or "1") ~= known
end

-- A key beside the shard's fixed ones, named by data; read it before the first write.
local function part(keys, name)
  return string.sub(keys[META], 1, -5) .. name
end

-- Adds tokens so that up to `items` waiters wake; `have` was read before the first write.
-- Where tokens are left over nobody waits, so a busy queue costs no push.
local function wake(list, have, items)
  local want = math.min(items, WAKE_MAX) - have
  if want > 0 then
    local tokens = {}
    for i = 1, want do
      tokens[i] = "1"
    end
    redis.call("RPUSH", list, unpack(tokens))
  end
end

-- The tokens of producers that wait for room, nil where the queue has no `maxsize`; read it before the first write.
local function room_tokens(keys, maxsize)
  return maxsize and redis.call("LLEN", keys[ROOM])
end

-- Tells one producer that there is room.
local function tell_room(keys, tokens)
  if tokens then
    wake(keys[ROOM], tokens, 1)
  end
end

-- For how long no lease ends because the broker was away: it was when the last call of any worker lies further back than
-- 2/5 of a lease, as busy workers beat each fifth of one and idle ones look each third. Its leases last half as long again
-- as it was away, one lease more at most, so that two such times in a row end none either; 0 where it was there.
local function grace_after(last, ms, lease)
  local away = last and ms - tonumber(last) or 0
  return away > lease * 2 / 5 and math.min(lease, math.floor(away * 3 / 2)) or 0
end

-- What a worker's call writes into meta.
local function seen(last, ms, lease)
  local grace = grace_after(last, ms, lease)
  if grace > 0 then
    return "seen", whole(ms), "grace", whole(ms + grace)
  end
  return "seen", whole(ms)
end

-- Whether the row with the earliest deadline has ended, and when it ends otherwise.
local function next_lease_end(keys, ms)
  local row = redis.call("ZRANGE", keys[WORKERS], "0", "0", "WITHSCORES")
  if not row[1] then
    return false, nil
  end
  local deadline = tonumber(row[2])
  return deadline <= ms, deadline
end

-- The length of an envelope's optional fields, or nil where the envelope ends before them.
local function optional_length(envelope, flags)
  local length = 0
  if bit.band(flags, HAS_EXPIRY) ~= 0 then
    length = length + 8
  end
  if bit.band(flags, HAS_OWNER) ~= 0 then
    length = length + 16
  end
  if bit.band(flags, HAS_COMPLETIONS) ~= 0 then
    local name = string.byte(envelope, CONTROL + length + 1)
    if not name then
      return nil
    end
    length = length + 1 + name
  end
  if CONTROL + length > #envelope then
    return nil
  end
  return length
end

local function readable(envelope)
  return #envelope >= CONTROL
    and string.byte(envelope, 4) <= 9
    and optional_length(envelope, struct.unpack("<H", envelope, 2)) ~= nil
end

local function default_options()
  return { attempt = 1, flags = 0, priority = 5, attempts = 4, crashes = 3, floor = 1000, cap = 600000 }
end

-- The options in a control part: its 14 bytes from `at`, the optional fields from `more`.
local function parse_options(text, at, more)
  local o = {}
  o.flags, o.priority, o.attempts, o.crashes, o.floor, o.cap = struct.unpack("<HBHBI4I4", text, at)
  if bit.band(o.flags, HAS_EXPIRY) ~= 0 then
    more = more + 8
  end
  if bit.band(o.flags, HAS_OWNER) ~= 0 then
    o.owner = string.sub(text, more, more + 15)
    more = more + 16
  end
  if bit.band(o.flags, HAS_COMPLETIONS) ~= 0 then
    o.completions = string.sub(text, more + 1, more + string.byte(text, more))
  end
  return o
end

local function envelope_options(envelope)
  if not readable(envelope) then
    return default_options()
  end
  return parse_options(envelope, 2, CONTROL + 1)
end

-- Calls `write` with slices of a long list, pairs kept together, as unpack fails on thousands.
local function in_chunks(items, write)
  for i = 1, #items, CHUNK do
    write(unpack(items, i, math.min(i + CHUNK - 1, #items)))
  end
end

-- The ids of a call, each once: a repeated one must not be moved twice.
local function each_once(ids)
  local known, once = {}, {}
  for _, id in ipairs(ids) do
    if not known[id] then
      known[id] = true
      once[#once + 1] = id
    end
  end
  return once
end

-- Whether it is a process: somebody waits for it alone, so it posts to no queue that it does not name itself, runs at
-- most once, and ends rather than become a dead letter.
local function is_process(options)
  return bit.band(options.flags, PROCESS) ~= 0
end

-- A running value is worker (16), token (8), length and name of the completion queue of worker or queue,
-- then, only where the options are not the defaults or this is not the first attempt: attempt (2), options.
local function running_options(value)
  local base = 25 + string.byte(value, 25)
  if #value == base then
    local o = default_options()
    o.completions = base > 25 and string.sub(value, 26, base) or nil
    return o
  end
  local o = parse_options(value, base + 3, base + 17)
  o.attempt = struct.unpack("<H", value, base + 1)
  if not o.completions and base > 25 and not is_process(o) then
    o.completions = string.sub(value, 26, base)
  end
  return o
end

-- What a task has used up: failures, crashes, the last token that failed, since when (ms) and how often it is refused.
local function parse_attempts(row)
  if not row then
    return { failures = 0, crashes = 0, token = "", refused = 0, refusals = 0 }
  end
  local failures, crashes, token, refused = struct.unpack("<HHc8I8", row)
  local refusals = #row >= 22 and struct.unpack("<H", row, 21) or 0 -- older rows end before it
  return { failures = failures, crashes = crashes, token = token, refused = refused, refusals = refusals }
end

local function pack_attempts(a)
  local token = a.token ~= "" and a.token or string.rep("\0", 8)
  return struct.pack("<HHc8I8H", a.failures, a.crashes, token, a.refused, math.min(a.refusals, 65535))
end

-- Waits of a retry grow between the task's floor and cap; `jitter` (0 to 999) is the caller's, as Lua's
-- random numbers repeat from call to call.
local function backoff(o, failures, jitter)
  local longest = math.min(math.max(o.cap, o.floor), o.floor * 2 ^ math.min(failures, 40))
  return o.floor + math.floor((longest - o.floor) * jitter / 1000)
end

-- The score of `scheduled` and `dead` is a time in ms; its fraction keeps the priority, so that promoting and
-- requeueing read no body.
local function time_score(ms, priority)
  return string.format("%.4f", ms + priority / 16)
end

local function score_priority(score)
  return math.min(math.floor(score % 1 * 16), 9)
end

local function live_row(keys, incarnation)
  local score = redis.call("ZSCORE", keys[WORKERS], incarnation)
  return score and tonumber(score) >= 0
end

-- The same, asked once a call: the tasks of a call mostly have one owner.
local function lives(known, keys, incarnation)
  if known[incarnation] == nil then
    known[incarnation] = live_row(keys, incarnation) or false
  end
  return known[incarnation]
end

-- The number of the call that a log of `claims` tells of, -1 where there is none: a call with it is a repeated one,
-- a lower number a belated one.
local function last_number(log)
  return log and struct.unpack("<I4", log) or -1
end

-- The token of what the last claim or take brought, behind its number and a letter; 0 where there is none.
local function last_token(log)
  return log and string.sub(log, 5, 5) ~= "o" and struct.unpack("<I8", log, 6) or 0
end

-- A token is greater than all before it, also after a failover, as it is at least the time (µs).
local function next_token(last, us)
  return math.max((tonumber(last) or 0) + 1, us)
end

-- A completion that no worker wrote: how the broker itself ends a task. What is not said of a process is nothing.
local function broker_completion(id, envelope, outcome, reason, exit, started)
  local digest = #envelope >= CONTROL and string.sub(envelope, 16, 23) or string.rep("\0", 8)
  local _, us = clock()
  local header = reason == "" and "" or '{"error":"' .. reason .. '"' .. (started and "," .. string.sub(started, 2) or "}")
  return struct.pack("<BBi4c8c8HI8I8c16BI4", 1, outcome, exit or NO_EXIT, digest, string.rep("\0", 8), 0, 0, us, id, 0, #header)
    .. header
end
local FAILED, LOST, CANCELLED = 1, 2, 3 -- outcomes; 2 is written "dead"
