-- reclaim: take back what a worker held whose lease ended; end the rows of clients that are gone.
-- One shared cursor walks the running tasks, 125 a call, so it survives the death of whoever walks.
--
-- Moves     running -> ready, running -> suspects (a second crash), running -> dead (the crash budget is spent),
--           running -> (ended) (its worker was told to stop it; a process whose crash budget is spent, with exit code -9)
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   lease of the caller (ms)
-- Returns   {"ok", tasks taken back, "1" if there is more to walk}, or {"grace", ms} while the broker was away and anybody
--           has a lease

local PAGE = "125" -- tasks a call: it stays below 5 ms also while the hash of attempts is a list, which each write walks

-- A hash's cursor means nothing to another server process: after a restart or a failover the walk begins anew.
local function server_run()
  return string.match(redis.call("INFO", "server"), "run_id:(%x+)") or ""
end

-- Sorts the ended rows: clients go at once; workers and owners are marked with a negative score, the turn of the walk
-- after which nothing of theirs is left. An idle worker has tasks only where a failover or a power cut undid their ends,
-- of which it knows nothing; where no task runs at all, it goes at once too.
local function sort_rows(keys, ms, turn, fresh)
  local rows = redis.call("ZRANGEBYSCORE", keys[WORKERS], "-inf", whole(ms), "WITHSCORES", "LIMIT", "0", "100")
  local r = { marked = {}, marks = {}, gone = {}, ends = {}, idle = {} }
  local runs = redis.call("HLEN", keys[RUNNING]) > 0
  for i = 1, #rows, 2 do
    local who, score = rows[i], tonumber(rows[i + 1])
    local log = redis.call("HGET", keys[CLAIMS], who)
    local kind = log and string.sub(log, 5, 5) or "i"
    r.idle[who] = kind == "i"
    if score < 0 then
      r.marked[who] = -score
    elseif kind == "w" or kind == "o" or runs and kind == "i" then
      r.marked[who] = fresh and turn or turn + 1
      r.marks[#r.marks + 1] = -r.marked[who]
      r.marks[#r.marks + 1] = who
    else
      r.gone[#r.gone + 1] = who
      if kind == "c" then
        r.ends[#r.ends + 1] = end_client(keys, who, log, false)
      end
    end
  end
  return r
end

-- After a full turn the rows that were marked when it began have nothing left: they go too.
local function add_walked_past(keys, r, turn)
  for who, mark in pairs(r.marked) do
    if mark <= turn then
      local log = redis.call("HGET", keys[CLAIMS], who)
      r.gone[#r.gone + 1] = who
      if log and string.sub(log, 5, 5) == "o" then
        r.ends[#r.ends + 1] = end_client(keys, who, log, false)
      end
    end
  end
end

-- The options in a running value, read once a call: the runs of one claim mostly share theirs.
local function options_of(w, value)
  local o = w.options[value] or running_options(value)
  w.options[value] = o
  return o
end

-- A worker that holds nothing did not die of it, so this uses nothing up.
local function hand_back(w, id, value, row)
  local o = options_of(w, value)
  w.held[#w.held + 1] = id
  leave_started(w.ending, id, o)
  add_giveback(w.back, id, o.priority, parse_attempts(row).crashes)
end

-- What a crash makes of a row of `attempts`, or of none, which most have: the crashes and the new row.
local function add_crash(w, row)
  local after = w.after[row]
  if not after then
    local used = parse_attempts(row)
    used.crashes = used.crashes + 1
    after = { crashes = used.crashes, row = pack_attempts(used) }
    w.after[row] = after
  end
  return after
end

-- A crash uses up one of the task's crash budget.
local function crash(keys, w, id, value, row)
  local o, used = options_of(w, value), add_crash(w, row)
  w.held[#w.held + 1] = id
  if used.crashes >= o.crashes then
    local envelope = redis.call("HGET", keys[TASKS], id) or ""
    local reason = "its worker died " .. used.crashes .. " times while it ran"
    if is_process(o) then
      local started = redis.call("HGET", keys[STARTED], id) or nil
      bury(w, id, o, broker_completion(id, envelope, LOST, "its worker or host was lost while it ran", -9, started))
    else
      bury(w, id, o, broker_completion(id, envelope, LOST, reason))
    end
  else
    leave_started(w.ending, id, o)
    add_giveback(w.back, id, o.priority, used.crashes)
  end
  w.used[#w.used + 1] = id
  w.used[#w.used + 1] = used.row
end

-- The owner in a running value, or ""; reads only what it must, as a walk sees every running task.
local function owner_of(value)
  local base = 25 + (string.byte(value, 25) or 0)
  local flags = string.byte(value, base + 3) or 0
  if bit.band(flags, HAS_OWNER) == 0 then
    return ""
  end
  local at = base + 17 + (bit.band(flags, HAS_EXPIRY) ~= 0 and 8 or 0)
  return string.sub(value, at, at + 15)
end

-- Looks at one page of the running tasks: those of marked workers, and those whose owner is marked.
local function look(keys, w, page, r)
  local marked, ids, values, rows = r.marked, {}, {}, {}
  for i = 1, #page, 2 do
    local id, value = page[i], page[i + 1]
    if marked[string.sub(value, 1, 16)] then
      ids[#ids + 1], values[#values + 1] = id, value
    elseif marked[owner_of(value)] then
      w.orders[#w.orders + 1] = { worker = string.sub(value, 1, 16), order = id .. string.char(15) }
    end
  end
  in_chunks(ids, function(...)
    for _, row in ipairs(redis.call("HMGET", keys[ATTEMPTS], ...)) do
      rows[#rows + 1] = row
    end
  end)
  for i, id in ipairs(ids) do
    if told_to_stop(w.ending, id, values[i]) then
      end_cancelled(w, id, values[i])
    elseif r.idle[string.sub(values[i], 1, 16)] then
      hand_back(w, id, values[i], rows[i])
    else
      crash(keys, w, id, values[i], rows[i])
    end
  end
end

local function write(keys, w, tokens)
  in_chunks(w.held, function(...)
    redis.call("HDEL", keys[RUNNING], ...)
  end)
  in_chunks(w.used, function(...)
    redis.call("HSET", keys[ATTEMPTS], ...)
  end)
  forget(keys, w.gone, true)
  for i = 1, #w.dead, 2 do
    redis.call("ZADD", keys[DEAD], w.dead[i], w.dead[i + 1])
    redis.call("HSET", keys[ERRORS], w.errors[i], w.errors[i + 1])
  end
  write_giveback(w.back, tokens)
  write_ending(w.ending)
  for _, stop in ipairs(w.orders) do
    order_stop(keys, stop.worker, stop.order)
  end
end

local function remove_rows(keys, r)
  if r.marks[1] then
    redis.call("ZADD", keys[WORKERS], unpack(r.marks))
  end
  for _, finish in ipairs(r.ends) do
    finish()
  end
  for _, who in ipairs(r.gone) do
    redis.call("ZREM", keys[WORKERS], who)
    redis.call("HDEL", keys[CLAIMS], who)
    redis.call("HDEL", keys[CANCELS], who)
  end
end

local function check_types(keys)
  redis.call("HLEN", keys[ATTEMPTS])
  redis.call("HLEN", keys[TASKS])
  redis.call("ZCARD", keys[DEAD])
  redis.call("HLEN", keys[ERRORS])
  redis.call("HLEN", keys[CANCELS])
  redis.call("SCARD", keys[NAMES])
  return redis.call("LLEN", keys[WAKE])
end

register("reclaim", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "seen", "grace", "turn", "cursor", "run", "retention", "results_max", "buckets")
  if not m then
    return problem
  end
  local ms, lease = clock(), tonumber(args[1])
  local grace = math.max(grace_after(m[2], ms, lease), (tonumber(m[3]) or 0) - ms)
  if grace > 0 then
    local leases = redis.call("ZCARD", keys[WORKERS])
    redis.call("HSET", keys[META], seen(m[2], ms, lease))
    if leases == 0 then
      return { "ok", 0, "0" }
    end
    return { "grace", whole(grace) }
  end
  local turn, cursor, run = tonumber(m[4]) or 1, m[5] or "0", server_run()
  if cursor ~= "0" and run ~= m[6] then
    turn, cursor = turn + 1, "0"
  end
  local r = sort_rows(keys, ms, turn, cursor == "0")
  local w = {
    ms = ms, held = {}, gone = {}, used = {}, dead = {}, errors = {}, orders = {},
    options = {}, after = {}, back = new_giveback(keys), ending = new_ending(keys, ms, m, 7),
  }
  local walking = next(r.marked) ~= nil
  if walking then
    local page = redis.call("HSCAN", keys[RUNNING], cursor, "COUNT", PAGE)
    look(keys, w, page[2], r)
    cursor = page[1]
    if cursor == "0" then
      add_walked_past(keys, r, turn)
      turn = turn + 1
    end
  end
  local tokens = check_types(keys)

  if walking then
    write(keys, w, tokens)
    redis.call("HSET", keys[META], "turn", whole(turn), "cursor", cursor, "run", run)
  end
  remove_rows(keys, r) -- last, as it deletes the completion queues of owners
  local ended = next_lease_end(keys, ms)
  return { "ok", #w.held, ended and "1" or "0" }
end)
