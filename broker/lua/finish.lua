-- finish: end runs, many at once, each by its own running value; only the newest token can.
--
-- Moves     running -> (ended), running -> scheduled (a failure with attempts left), running -> dead (not a process);
--           a failure of a run that its worker was told to stop: running -> (ended), as cancelled
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   jitter, 0 to 999
-- ARGV[2..] four a task: id, running value, outcome, completion; outcomes: o ok, f failed, g failed for
--           good, d dead (unreadable, expired), c cancelled
-- Returns   one letter a task: o ended, r to be retried, b buried as a dead letter, a already done by this
--           token, l lost

-- A failure uses up an attempt; answers the letter if it is tried again, and gathers the write. That it ran at all
-- ends a time of refusals.
local function fail(w, item, o, used, jitter)
  used.failures = used.failures + 1
  used.token = string.sub(item.value, 17, 24)
  used.refused, used.refusals = 0, 0
  w.used[#w.used + 1] = item.id
  w.used[#w.used + 1] = pack_attempts(used)
  if item.outcome ~= "f" or used.failures >= o.attempts then
    return nil
  end
  local at = w.ms + backoff(o, used.failures, jitter)
  w.due[#w.due + 1] = time_score(at, o.priority)
  w.due[#w.due + 1] = item.id
  w.earliest = math.min(w.earliest or at, at)
  return "r"
end

-- The options of a running value, parsed once a call: runs of one claim whose tasks are alike share the value.
local function known_options(w, value)
  local options = w.options[value]
  if not options then
    options = running_options(value)
    w.options[value] = options
  end
  return options
end

-- Sorts one accepted run into the writes. A failure may come of the order to stop, or before its worker read it.
local function settle(w, item, used, jitter)
  local failed = item.outcome == "f" or item.outcome == "g"
  if failed and told_to_stop(w.ending, item.id, item.value) then
    end_cancelled(w, item.id, item.value, item.completion)
    return "o"
  end
  local o = known_options(w, item.value)
  w.held[#w.held + 1] = item.id
  if failed then
    local retried = fail(w, item, o, used, jitter)
    if retried then
      leave_started(w.ending, item.id, o)
      return retried
    end
  end
  if item.outcome == "o" or item.outcome == "c" then
    w.gone[#w.gone + 1] = item.id
    add_ending(w.ending, item.id, o, item.completion)
    return "o"
  end
  return bury(w, item.id, o, item.completion) and "b" or "o"
end

-- A run that is not held any more: this token ended it, failed it, or lost it.
local function letter_of_lost(item, record, used)
  local token = string.sub(item.value, 17, 24)
  if record and string.sub(record, 15, 22) == token then
    return "a"
  end
  return used.token == token and "r" or "l"
end

register("finish", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "retention", "results_max", "buckets")
  if not m then
    return problem
  end
  local jitter, n, ids = tonumber(args[1]), (#args - 1) / 4, {}
  for i = 1, n do
    ids[i] = args[4 * i - 2]
  end
  local held = redis.call("HMGET", keys[RUNNING], unpack(ids))
  local attempts = redis.call("HLEN", keys[ATTEMPTS]) > 0
  local used = attempts and redis.call("HMGET", keys[ATTEMPTS], unpack(ids)) or {}
  local w = { ms = clock(), held = {}, gone = {}, due = {}, used = {}, dead = {}, errors = {}, options = {} }
  w.ending = new_ending(keys, w.ms, m, 2)
  local letters, records, settled = {}, nil, {}
  for i = 1, n do
    local at = 4 * i - 2
    local item = { id = args[at], value = args[at + 1], outcome = args[at + 2], completion = args[at + 3] }
    if held[i] == item.value and not settled[item.id] then
      settled[item.id] = true
      letters[i] = settle(w, item, parse_attempts(used[i]), jitter)
    else
      records = records or find_records(keys, ids, m[4])
      letters[i] = letter_of_lost(item, records[i], parse_attempts(used[i]))
    end
  end
  local tokens = redis.call("LLEN", keys[WAKE])
  local first = redis.call("ZRANGE", keys[SCHEDULED], "0", "0", "WITHSCORES")
  redis.call("HLEN", keys[TASKS]) -- wrong types fail here, before the first write
  if #w.dead > 0 then
    redis.call("ZCARD", keys[DEAD])
    redis.call("HLEN", keys[ERRORS])
  end

  write_settled(keys, w, attempts)
  if w.earliest and (not first[2] or w.earliest < tonumber(first[2])) then
    wake(keys[WAKE], tokens, 1) -- a waiter must learn that it may not sleep past this one
  end
  return table.concat(letters)
end)
