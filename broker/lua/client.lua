-- join: give a client that owns tasks a lease. When it ends, its tasks are dropped and its private completion
-- queue goes. Joining again renews.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   client's incarnation (16 bytes)
-- ARGV[2]   lease (ms)
-- ARGV[3]   name of its private completion queue, or ""
-- Returns   {"ok"}, or {"lost"}

register("join", {}, function(keys, args)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  local row = redis.call("ZSCORE", keys[WORKERS], args[1])
  if row and tonumber(row) < 0 then
    return { "lost" }
  end
  redis.call("HLEN", keys[CLAIMS]) -- a wrong type fails here, before the first write
  redis.call("HSET", keys[META], "layout", LAYOUT)
  redis.call("HSET", keys[CLAIMS], args[1], struct.pack("<I4", 0) .. "o" .. args[3])
  redis.call("ZADD", keys[WORKERS], whole((clock()) + tonumber(args[2])), args[1])
  return { "ok" }
end)

-- leave: end a client's row now. What it owned goes; what it took is confirmed or goes back.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   client's incarnation (16 bytes)
-- ARGV[2]   token of the batch of completions that it got last, which this confirms; a newer one goes back, with "0" any
-- Returns   {"ok"}

register("leave", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  local log = redis.call("HGET", keys[CLAIMS], args[1])
  local kind = log and string.sub(log, 5, 5)
  redis.call("ZSCORE", keys[WORKERS], args[1])
  redis.call("SCARD", keys[NAMES])
  redis.call("HLEN", keys[CANCELS])
  if kind == "c" or kind == "o" then
    local finish = end_client(keys, args[1], log, kind == "c" and last_token(log) <= tonumber(args[2]))
    finish()
    redis.call("ZREM", keys[WORKERS], args[1])
  end
  return { "ok" }
end)
