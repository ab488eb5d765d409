-- start: say where a process runs, for as long as it does; whoever watches it learns of it.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   id
-- ARGV[2]   running value
-- ARGV[3]   JSON that tells where it runs: pid, host, worker
-- Returns   {"ok"}, or {"lost"} where this run is not held any more

register("start", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  local id = args[1]
  if redis.call("HGET", keys[RUNNING], id) ~= args[2] then
    return { "lost" }
  end
  local watched = redis.call("SISMEMBER", keys[WATCHERS], id) == 1
  local known = redis.call("HGET", keys[STARTED], id)

  redis.call("HSET", keys[STARTED], id, args[3])
  if watched and known ~= args[3] then
    redis.call("PUBLISH", part(keys, "ended"), id)
  end
  return { "ok" }
end)
