-- heartbeat: renew the lease of a worker or a client, and tell it what to stop.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   incarnation (16 bytes)
-- ARGV[2]   lease (ms)
-- ARGV[3]   "" while it holds something; else the number of its last claim that brought tasks: it holds nothing, and
--           its row may end
-- ARGV[4]   the stop orders of the last answer, exactly as they came, or ""; they are dropped
-- Returns   {"ok", now (ms), stop orders: (id, signal) of 17 bytes each, "1" if a lease has ended}, or {"lost"}

register("heartbeat", { "allow-oom" }, function(keys, args)
  local who, lease = args[1], tonumber(args[2])
  local m, problem = settings(keys, "seen")
  if not m then
    return problem
  end
  local ms = clock()
  local row = redis.call("ZSCORE", keys[WORKERS], who)
  if not row or tonumber(row) < 0 then
    return { "lost" }
  end
  local log = redis.call("HGET", keys[CLAIMS], who)
  local kind = log and string.sub(log, 5, 5)
  local orders = redis.call("HGET", keys[CANCELS], who)
  local ended = next_lease_end(keys, ms)

  if kind ~= "c" and kind ~= "o" then -- a client's lease is not a worker's: its beats would hide an outage
    redis.call("HSET", keys[META], seen(m[2], ms, lease))
  end
  if args[3] == "" then
    redis.call("ZADD", keys[WORKERS], whole(ms + lease), who)
  elseif log and last_number(log) == tonumber(args[3]) then
    redis.call("HSET", keys[CLAIMS], who, string.sub(log, 1, 4) .. "i")
  end
  if orders and orders == args[4] then
    redis.call("HDEL", keys[CANCELS], who)
    orders = nil
  end
  return { "ok", whole(ms), orders or "", ended and "1" or "0" }
end)
