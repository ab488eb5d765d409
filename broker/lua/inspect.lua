-- inspect: how many tasks are in each state, and the queue's settings.
--
-- KEYS      the shard's fixed keys (lib)
-- Returns   {tasks, running, scheduled, dead, suspects, tasks whose worker or client is in `workers`,
--            {setting, value, ...}, {completion queue, length, ...}}

register("inspect", { "no-writes" }, function(keys)
  local names = redis.call("SSCAN", keys[NAMES], "0", "COUNT", CHUNK)[2]
  local completions = {}
  for i, name in ipairs(names) do
    completions[2 * i - 1] = name
    completions[2 * i] = redis.call("LLEN", part(keys, "done:" .. name))
  end
  return {
    redis.call("HLEN", keys[TASKS]),
    redis.call("HLEN", keys[RUNNING]),
    redis.call("ZCARD", keys[SCHEDULED]),
    redis.call("ZCARD", keys[DEAD]),
    redis.call("LLEN", keys[SUSPECTS]),
    redis.call("ZCARD", keys[WORKERS]),
    redis.call("HGETALL", keys[META]),
    completions,
  }
end)

-- find: everything about one task.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   id
-- Returns   {state, envelope without its body, running value, due (ms), attempts used, record or dead letter's error,
--           JSON that tells where a process runs, "1" if the lease of its worker has ended}; state is ready, running, scheduled, dead, ended or unknown; what does
--           not apply is ""

local function without_body(envelope)
  if not readable(envelope) then
    return string.sub(envelope, 1, 256)
  end
  local flags, header = struct.unpack("<H", envelope, 2), struct.unpack("<I4", envelope, 24)
  return string.sub(envelope, 1, CONTROL + optional_length(envelope, flags) + header)
end

-- Whether the lease of the worker that holds a run has ended, so that the run is taken back as soon as somebody looks.
local function is_lost(keys, running, ms)
  local lease_end = running and redis.call("ZSCORE", keys[WORKERS], string.sub(running, 1, 16))
  return running and tonumber(lease_end or 0) <= ms
end

register("find", { "no-writes" }, function(keys, args)
  local id = args[1]
  local envelope = redis.call("HGET", keys[TASKS], id)
  local running = redis.call("HGET", keys[RUNNING], id)
  local due = redis.call("ZSCORE", keys[SCHEDULED], id)
  local dead = redis.call("ZSCORE", keys[DEAD], id)
  local record = find_records(keys, { id }, redis.call("HGET", keys[META], "buckets"))[1]
  local state = running and "running" or due and "scheduled" or dead and "dead"
    or envelope and "ready" or record and "ended" or "unknown"
  return {
    state,
    envelope and without_body(envelope) or "",
    running or "",
    (due or dead) and whole(math.floor(due or dead)) or "",
    redis.call("HGET", keys[ATTEMPTS], id) or "",
    dead and redis.call("HGET", keys[ERRORS], id) or record or "",
    redis.call("HGET", keys[STARTED], id) or "",
    is_lost(keys, running, (clock())) and "1" or "",
  }
end)

-- list_started: a page of the processes that run, in no order. One that starts or ends meanwhile may be missing.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   cursor of the last page, 0 for the first
-- ARGV[2]   about how many, at most 500
-- Returns   {cursor of the next page, 0 after the last, {id, JSON that tells where it runs, envelope without its body,
--           "1" if the lease of its worker has ended, ...}}

register("list_started", { "no-writes" }, function(keys, args)
  local scan = redis.call("HSCAN", keys[STARTED], args[1], "COUNT", math.min(tonumber(args[2]), CHUNK))
  local page, ms = {}, (clock())
  for i = 1, #scan[2], 2 do
    local id = scan[2][i]
    local running = redis.call("HGET", keys[RUNNING], id)
    page[#page + 1] = id
    page[#page + 1] = scan[2][i + 1]
    page[#page + 1] = without_body(redis.call("HGET", keys[TASKS], id) or "")
    page[#page + 1] = is_lost(keys, running, ms) and "1" or ""
  end
  return { scan[1], page }
end)

-- list_dead: a page of the dead letters, oldest first.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   from which, 0 for the oldest
-- ARGV[2]   how many, at most 100
-- Returns   four a task: id, time of death (ms), envelope without its body, completion that says why

register("list_dead", { "no-writes" }, function(keys, args)
  local first, page = tonumber(args[1]), {}
  local ids = redis.call("ZRANGE", keys[DEAD], first, first + tonumber(args[2]) - 1, "WITHSCORES")
  for i = 1, #ids, 2 do
    page[#page + 1] = ids[i]
    page[#page + 1] = whole(math.floor(ids[i + 1]))
    page[#page + 1] = without_body(redis.call("HGET", keys[TASKS], ids[i]) or "")
    page[#page + 1] = redis.call("HGET", keys[ERRORS], ids[i]) or ""
  end
  return page
end)
