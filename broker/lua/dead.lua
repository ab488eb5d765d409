-- requeue: give dead letters a new life, with all their attempts.
--
-- Moves     dead -> ready
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   how many of the oldest, at most 100; "" to name them
-- ARGV[2..] ids, at most 100
-- Returns   how many went back

local function dead_ids(keys, args)
  if args[1] ~= "" then
    return redis.call("ZRANGE", keys[DEAD], "0", tonumber(args[1]) - 1)
  end
  local named = each_once({ unpack(args, 2) })
  local scores = redis.call("ZMSCORE", keys[DEAD], unpack(named))
  local ids = {}
  for i, id in ipairs(named) do
    if scores[i] then
      ids[#ids + 1] = id
    end
  end
  return ids
end

local function check_dead_types(keys)
  redis.call("HLEN", keys[ATTEMPTS])
  redis.call("HLEN", keys[ERRORS])
  return redis.call("LLEN", keys[WAKE])
end

local function drop_dead(keys, ids)
  redis.call("ZREM", keys[DEAD], unpack(ids))
  redis.call("HDEL", keys[ERRORS], unpack(ids))
  redis.call("HDEL", keys[ATTEMPTS], unpack(ids))
end

register("requeue", {}, function(keys, args)
  local m, problem = settings(keys, "buckets")
  if not m then
    return problem
  end
  local ids = dead_ids(keys, args)
  if #ids == 0 then
    return 0
  end
  local scores = redis.call("ZMSCORE", keys[DEAD], unpack(ids))
  local lists, buckets = {}, live_buckets(m[2])
  for i, id in ipairs(ids) do
    local priority = score_priority(scores[i])
    redis.call("LLEN", keys[READY + priority])
    lists[priority] = lists[priority] or {}
    table.insert(lists[priority], id)
  end
  for i, name in ipairs(buckets) do
    buckets[i] = part(keys, "results:" .. name)
    redis.call("HLEN", buckets[i])
  end
  local tokens = check_dead_types(keys)

  drop_dead(keys, ids)
  for _, bucket in ipairs(buckets) do
    redis.call("HDEL", bucket, unpack(ids)) -- so that the new life can end
  end
  for priority, list in pairs(lists) do
    redis.call("RPUSH", keys[READY + priority], unpack(list))
  end
  wake(keys[WAKE], tokens, #ids)
  return #ids
end)

-- purge_dead: delete dead letters for good. Their records stay as long as any record does.
--
-- Moves     dead -> (nothing)
-- KEYS, ARGV  as requeue
-- Returns   how many were deleted

register("purge_dead", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  local ids = dead_ids(keys, args)
  if #ids == 0 then
    return 0
  end
  redis.call("HLEN", keys[TASKS])
  check_dead_types(keys)
  drop_dead(keys, ids)
  redis.call("HDEL", keys[TASKS], unpack(ids))
  return #ids
end)
