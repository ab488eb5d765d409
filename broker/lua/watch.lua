-- watch: look up how tasks ended, and have the end of the others published; of processes the start as well.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV      ids, at most 100
-- Returns   one item a task: its record; while it lives "", or the JSON that tells where the process runs, once it
--           does; nil where nothing is known of it

register("watch", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "buckets")
  if not m then
    return problem
  end
  local records = find_records(keys, args, m[2])
  local dead = redis.call("ZMSCORE", keys[DEAD], unpack(args))
  local started = redis.call("HMGET", keys[STARTED], unpack(args))
  local answers, living = {}, {}
  for i, id in ipairs(args) do
    answers[i] = records[i] or (dead[i] and redis.call("HGET", keys[ERRORS], id))
    if not answers[i] and redis.call("HEXISTS", keys[TASKS], id) == 1 then
      answers[i] = started[i] or ""
      living[#living + 1] = id
    end
    answers[i] = answers[i] or false
  end
  redis.call("SCARD", keys[WATCHERS]) -- a wrong type fails here, before the first write
  if #living > 0 then
    redis.call("SADD", keys[WATCHERS], unpack(living))
  end
  return answers
end)
