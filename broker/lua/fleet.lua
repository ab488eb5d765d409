-- present: say that a worker is up, which `status` shows. It decides nothing.
--
-- KEYS[1]   leases  ZSET  incarnations by deadline (ms)
-- KEYS[2]   about   HASH  incarnation -> JSON about the worker
-- ARGV[1]   incarnation (16 bytes)
-- ARGV[2]   lease (ms), 0 when it stops
-- ARGV[3]   JSON about the worker
-- Returns   {"ok"}

register("present", { "allow-oom" }, function(keys, args)
  local ms = clock()
  local gone = redis.call("ZRANGEBYSCORE", keys[1], "-inf", whole(ms), "LIMIT", "0", "100")
  redis.call("HLEN", keys[2]) -- a wrong type fails here, before the first write
  if args[2] == "0" then
    gone[#gone + 1] = args[1]
  else
    redis.call("ZADD", keys[1], whole(ms + tonumber(args[2])), args[1])
    redis.call("HSET", keys[2], args[1], args[3])
  end
  for _, who in ipairs(gone) do
    if who ~= args[1] or args[2] == "0" then
      redis.call("ZREM", keys[1], who)
      redis.call("HDEL", keys[2], who)
    end
  end
  return { "ok" }
end)

-- fleet: the workers that are up.
--
-- KEYS      as present
-- Returns   one item a worker: JSON about it

register("fleet", { "no-writes" }, function(keys)
  local who = redis.call("ZRANGEBYSCORE", keys[1], whole((clock())), "+inf", "LIMIT", "0", "5000")
  if #who == 0 then
    return {}
  end
  return redis.call("HMGET", keys[2], unpack(who))
end)
