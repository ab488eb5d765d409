-- refuse: a worker gives back what it can't run (a name, a version or a command that it does not know or
-- allow); another worker may. The wait grows with the time since the first refusal.
--
-- Moves     running -> scheduled, running -> dead (after 5 minutes of refusals)
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   jitter, 0 to 999
-- ARGV[2..] three a task: id, running value, completion for the case that it is buried
-- Returns   one letter a task: r to be offered again, b buried, l not held any more

local PATIENCE = 300000 -- ms
local FIRST_WAIT, LONGEST_WAIT = 50, 15000 -- ms

local function refuse_one(w, ending, id, completion, o, used, jitter)
  used.refused = used.refused > 0 and used.refused or w.ms
  local elapsed = w.ms - used.refused
  w.held[#w.held + 1] = id
  if elapsed >= PATIENCE then
    add_ending(ending, id, o, completion)
    w.dead[#w.dead + 1] = time_score(w.ms, o.priority)
    w.dead[#w.dead + 1] = id
    w.errors[#w.errors + 1] = id
    w.errors[#w.errors + 1] = completion
    return "b"
  end
  local wait = math.min(math.max(FIRST_WAIT, elapsed / 2), LONGEST_WAIT)
  w.due[#w.due + 1] = time_score(w.ms + math.floor(wait * (0.5 + jitter / 1000)), o.priority)
  w.due[#w.due + 1] = id
  w.used[#w.used + 1] = id
  w.used[#w.used + 1] = pack_attempts(used)
  return "r"
end

register("refuse", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "retention", "results_max", "buckets")
  if not m then
    return problem
  end
  local ids = {}
  for i = 2, #args, 3 do
    ids[#ids + 1] = args[i]
  end
  local held = redis.call("HMGET", keys[RUNNING], unpack(ids))
  local rows = redis.call("HLEN", keys[ATTEMPTS]) > 0 and redis.call("HMGET", keys[ATTEMPTS], unpack(ids)) or {}
  local w = { ms = clock(), held = {}, due = {}, used = {}, dead = {}, errors = {} }
  local ending, letters, settled = new_ending(keys, w.ms, m, 2), {}, {}
  for i, id in ipairs(ids) do
    letters[i] = "l"
    if held[i] and held[i] == args[3 * i] and not settled[id] then
      settled[id] = true
      letters[i] = refuse_one(
        w, ending, id, args[3 * i + 1], running_options(held[i]), parse_attempts(rows[i]), tonumber(args[1])
      )
    end
  end
  local tokens = redis.call("LLEN", keys[WAKE])
  redis.call("ZCARD", keys[SCHEDULED]) -- wrong types fail here, before the first write
  redis.call("ZCARD", keys[DEAD])
  redis.call("HLEN", keys[ERRORS])

  if #w.held > 0 then
    redis.call("HDEL", keys[RUNNING], unpack(w.held))
  end
  if #w.due > 0 then
    redis.call("ZADD", keys[SCHEDULED], unpack(w.due))
    redis.call("HSET", keys[ATTEMPTS], unpack(w.used))
    wake(keys[WAKE], tokens, 1)
  end
  if #w.dead > 0 then
    redis.call("ZADD", keys[DEAD], unpack(w.dead))
    redis.call("HSET", keys[ERRORS], unpack(w.errors))
  end
  write_ending(ending)
  return table.concat(letters)
end)
