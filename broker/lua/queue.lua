-- open: how many shards the queue has, as this one knows. A queue that was used before it could have several has one.
--
-- KEYS      the shard's fixed keys (lib): the first shard decides, the others are told
-- ARGV[1]   how many a new queue gets, 1 to 4096; "" to make none
-- ARGV[2]   nothing, or "1" for another shard than the first
-- Returns   how many it has; 0 where there is none, and none was made, or where the queue is being deleted
-- Fails     PMQSETTING for a number that is none

register("open", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "shards", "deleting")
  if not m then
    return problem
  end
  local new = tonumber(args[1])
  if args[1] ~= "" and (not string.find(args[1], "^%d+$") or new < 1 or new > 4096) then
    return redis.error_reply("PMQSETTING a queue has 1 to 4096 shards")
  end
  if m[3] then
    return 0
  elseif m[2] then
    return tonumber(m[2])
  elseif m[1] and args[2] ~= "1" then
    return 1
  elseif not new then
    return 0
  end
  redis.call("HSET", keys[META], "layout", LAYOUT, "shards", whole(new))
  return new
end)

-- wake: tell workers of the whole queue that a shard has ready tasks. For a Redis Cluster, where nobody can wait on the
-- lists of several slots at once: there this is called after what made tasks ready, and each token is a shard's number.
--
-- KEYS[1]   wake.all  LIST  tokens; it is in the slot of the queue's first shard
-- KEYS[2]   absent, which never exists
-- ARGV[1]   number of the shard
-- ARGV[2]   how many tasks are ready
-- Returns   how many tokens it has added: as many of the shard's as there are tasks, 256 of all shards, but one of each

register("wake", { "allow-oom" }, function(keys, args)
  local have = #redis.call("LPOS", keys[1], args[1], "COUNT", "0")
  local room = math.max(WAKE_MAX - redis.call("LLEN", keys[1]), have == 0 and 1 or 0)
  local tokens = {}
  for i = 1, math.min(tonumber(args[2]) - have, room) do
    tokens[i] = args[1]
  end
  if tokens[1] then
    redis.call("RPUSH", keys[1], unpack(tokens))
  end
  return #tokens
end)

-- configure: write settings of the queue; pause and resume are `paused`.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV      pairs: name, value; "" for the default
-- Returns   {"ok"}
-- Fails     PMQSETTING for a name that is no setting, or a value that is no number where one is due

local SETTINGS = "|paused|maxsize|retention|results_max|completions|completions_max|log_max|logs_max|"
local NUMBERS = "|maxsize|retention|results_max|completions_max|log_max|logs_max|"

local function check_settings(args)
  for i = 1, #args, 2 do
    local name, value = "|" .. args[i] .. "|", args[i + 1]
    if not string.find(SETTINGS, name, 1, true) then
      return redis.error_reply("PMQSETTING " .. string.gsub(args[i], "[^%w_]", "?") .. " is no setting of a queue")
    end
    if not value or value ~= "" and string.find(NUMBERS, name, 1, true) and not string.find(value, "^%d+$") then
      return redis.error_reply("PMQSETTING " .. args[i] .. " needs a number")
    end
  end
end

register("configure", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "paused", "retention", "buckets")
  problem = problem or check_settings(args)
  if problem then
    return problem
  end
  local tokens = redis.call("LLEN", keys[WAKE])

  redis.call("HSET", keys[META], "layout", LAYOUT)
  for i = 1, #args, 2 do
    if args[i + 1] == "" then
      redis.call("HDEL", keys[META], args[i])
    else
      redis.call("HSET", keys[META], args[i], args[i + 1])
    end
  end
  if m[2] and not redis.call("HGET", keys[META], "paused") then
    wake(keys[WAKE], tokens, WAKE_MAX)
  end
  if m[4] and redis.call("HGET", keys[META], "retention") ~= m[3] then
    -- The newest bucket would expire by the old retention, so the next record opens another.
    local newest = tonumber(live_buckets(m[4])[1])
    redis.call("HSET", keys[META], "buckets", whole(math.max((clock()), newest + 1)) .. "," .. m[4])
  end
  return { "ok" }
end)

-- purge: cancel everything that waits, ready or scheduled, at most n a call and 1 MiB of bodies, but at least one.
--
-- Moves     ready -> (ended), scheduled -> (ended)
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   n, at most 500
-- Returns   {how many were cancelled, "1" if more wait}

-- The next ids of any waiting list, and how to remove `count` of them from it.
local function next_waiting(keys, n)
  for priority = 10, 0, -1 do
    local list = priority == 10 and keys[SUSPECTS] or keys[READY + priority]
    local ids = redis.call("LRANGE", list, "0", n - 1)
    if #ids > 0 then
      return ids, function(count) redis.call("LTRIM", list, whole(count), "-1") end
    end
  end
  local ids = redis.call("ZRANGE", keys[SCHEDULED], "0", n - 1)
  return ids, function(count) redis.call("ZREM", keys[SCHEDULED], unpack(ids, 1, count)) end
end

register("purge", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "retention", "results_max", "buckets", "completions", "maxsize")
  if not m then
    return problem
  end
  local ids, remove = next_waiting(keys, math.min(tonumber(args[1]), CHUNK))
  if #ids == 0 then
    return { 0, "0" }
  end
  local attempts = redis.call("HLEN", keys[ATTEMPTS]) > 0
  redis.call("SCARD", keys[HOLES])
  local room = room_tokens(keys, m[6])
  local ending, gone, count, bytes = new_ending(keys, (clock()), m, 2), {}, 0, 0
  while count < #ids and bytes < CHUNK_BYTES do
    count = count + 1
    local id = ids[count]
    local envelope = redis.call("HGET", keys[TASKS], id)
    if envelope and #id == 16 then -- else a hole
      local o = envelope_options(envelope)
      o.completions = o.completions or not is_process(o) and m[5] or nil
      add_ending(ending, id, o, broker_completion(id, envelope, CANCELLED, ""))
      gone[#gone + 1] = id
      bytes = bytes + #envelope
    end
  end

  remove(count)
  redis.call("SREM", keys[HOLES], unpack(ids, 1, count))
  if #gone > 0 then
    forget(keys, gone, attempts)
    write_ending(ending)
    tell_room(keys, room)
  end
  return { #gone, "1" }
end)
