-- finish: end runs, many at once, each by its own running value; only the newest token can.
--
-- Moves     running -> (ended), running -> scheduled (a failure with attempts left), running -> dead (not a process);
--           a failure of a run that its worker was told to stop: running -> (ended), as cancelled
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   jitter, 0 to 999
-- ARGV[2..] groups of runs that share a running value and an outcome: the running value, the outcome, how many, and
--           two for each: id, completion; outcomes: o ok, f failed, g failed for good, d dead (unreadable, expired),
--           c cancelled
-- Returns   one letter a task: o ended, r to be retried, b buried as a dead letter, a already done by this
--           token, l lost
-- Fails     PMQMALFORMED where a group does not have the runs that it says

-- The ids of a call, and its groups; nil where they can't be read.
local function read_groups(args)
  local ids, groups, at, count = {}, {}, 2, 0
  while at <= #args do
    local n = tonumber(args[at + 2])
    local last = n and at + 2 + 2 * n
    if not n or n < 1 or last > #args then
      return nil
    end
    groups[#groups + 1] = { value = args[at], outcome = args[at + 1], at = at + 3, first = count + 1, last = count + n }
    for i = at + 3, last, 2 do
      count = count + 1
      ids[count] = args[i]
    end
    at = last + 1
  end
  return ids, groups
end

-- A failure uses up an attempt; answers the letter if it is tried again, and gathers the write. That it ran at all
-- ends a time of refusals.
local function fail(w, id, group, used, jitter)
  used.failures = used.failures + 1
  used.token = string.sub(group.value, 17, 24)
  used.refused, used.refusals = 0, 0
  w.used[#w.used + 1] = id
  w.used[#w.used + 1] = pack_attempts(used)
  if group.outcome ~= "f" or used.failures >= group.options.attempts then
    return nil
  end
  local at = w.ms + backoff(group.options, used.failures, jitter)
  w.due[#w.due + 1] = time_score(at, group.options.priority)
  w.due[#w.due + 1] = id
  w.earliest = math.min(w.earliest or at, at)
  return "r"
end

-- Sorts one accepted run that is not a usual one into the writes. A failure may come of the order to stop, or before its
-- worker read it.
local function settle(w, id, group, completion, row)
  local failed = group.outcome == "f" or group.outcome == "g"
  if failed and told_to_stop(w.ending, id, group.value) then
    end_cancelled(w, id, group.value, completion)
    return "o"
  end
  w.held[#w.held + 1] = id
  if failed then
    local retried = fail(w, id, group, parse_attempts(row), w.jitter)
    if retried then
      leave_started(w.ending, id, group.options)
      return retried
    end
  end
  if group.outcome == "o" or group.outcome == "c" then
    w.gone[#w.gone + 1] = id
    add_ending(w.ending, id, group.options, completion)
    return "o"
  end
  return bury(w, id, group.options, completion) and "b" or "o"
end

-- A run that is not held any more: this token ended it, failed it, or lost it.
local function letter_of_lost(value, record, row)
  local token = string.sub(value, 17, 24)
  if record and string.sub(record, 15, 22) == token then
    return "a"
  end
  return parse_attempts(row).token == token and "r" or "l"
end

-- Sorts the runs of a group that ended well into the writes, all at once, as most do.
local function settle_well(w, group, ids, letters)
  local place, n, held, gone = nil, nil, w.held, w.gone
  local count, gone_count = #held, #gone
  for i = group.first, group.last do
    if not letters[i] then
      place = place or place_of(w.ending, group.options)
      n = n or place.n
      n, count, gone_count = n + 1, count + 1, gone_count + 1
      place.ids[n], held[count], gone[gone_count] = ids[i], ids[i], ids[i]
      place.completions[n] = w.args[group.at + 2 * (i - group.first) + 1]
      letters[i] = "o"
    end
  end
  if place then
    place.n = n
  end
end

-- Tells those of a group that are not held any more.
local function settle_lost(w, group, ids, letters)
  local held, settled, value = w.running, w.settled, group.value
  for i = group.first, group.last do
    local id = ids[i]
    if held[i] ~= value or settled[id] then
      w.records = w.records or find_records(w.ending.keys, ids, w.buckets)
      letters[i] = letter_of_lost(value, w.records[i], w.rows[i])
    else
      settled[id] = true
    end
  end
end

-- One letter a run; gathers the writes.
local function settle_all(w, ids, groups)
  local letters = {}
  for _, group in ipairs(groups) do
    group.options = running_options(group.value)
    settle_lost(w, group, ids, letters)
    if group.outcome == "o" and not is_process(group.options) then
      settle_well(w, group, ids, letters)
    end
    for i = group.first, group.last do
      letters[i] = letters[i] or settle(w, ids[i], group, w.args[group.at + 2 * (i - group.first) + 1], w.rows[i])
    end
  end
  return table.concat(letters)
end

register("finish", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "retention", "results_max", "buckets")
  if not m then
    return problem
  end
  local ids, groups = read_groups(args)
  if not ids then
    return redis.error_reply("PMQMALFORMED a group of runs ends too early")
  end
  local w = { ms = clock(), args = args, held = {}, gone = {}, due = {}, used = {}, dead = {}, errors = {}, settled = {} }
  w.jitter, w.buckets = tonumber(args[1]), m[4]
  w.running = redis.call("HMGET", keys[RUNNING], unpack(ids))
  local attempts = redis.call("HLEN", keys[ATTEMPTS]) > 0
  w.rows = attempts and redis.call("HMGET", keys[ATTEMPTS], unpack(ids)) or {}
  w.ending = new_ending(keys, w.ms, m, 2)
  local letters = settle_all(w, ids, groups)
  local tokens = w.earliest and redis.call("LLEN", keys[WAKE])
  local first = w.earliest and redis.call("ZRANGE", keys[SCHEDULED], "0", "0", "WITHSCORES")
  redis.call("HLEN", keys[TASKS]) -- wrong types fail here, before the first write
  if #w.dead > 0 then
    redis.call("ZCARD", keys[DEAD])
    redis.call("HLEN", keys[ERRORS])
  end

  write_settled(keys, w, attempts)
  if w.earliest and (not first[2] or w.earliest < tonumber(first[2])) then
    wake(keys[WAKE], tokens, 1) -- a waiter must learn that it may not sleep past this one
  end
  return letters
end)
