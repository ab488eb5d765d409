-- renew: renew the leases of members of an object, of any kind.
--
-- KEYS      the object's keys (object)
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   lease (ms)
-- ARGV[3..] members (16 bytes each)
-- Returns   one letter a member: k kept, l lost

register("renew", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "lone")
  if not m then
    return problem
  elseif m[2] then
    unfold(keys, m[2])
  end
  local deadline, letters = whole((clock()) + tonumber(args[2])), {}
  for i = 3, #args do
    local kept = redis.call("ZSCORE", keys[MEMBERS], args[i])
    if kept then
      redis.call("ZADD", keys[MEMBERS], deadline, args[i])
    end
    letters[i - 2] = kept and "k" or "l"
  end
  for key = META, LOG do -- what is in use must not expire as something idle
    redis.call("PEXPIRE", keys[key], whole(IDLE_TTL), "GT")
  end
  keep_alive(keys, args[1])
  return table.concat(letters)
end)

-- attach: become a member of an object that holds nothing of it but the object itself.
--
-- KEYS      the object's keys (object)
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   lease (ms)
-- ARGV[4]   "1" where the object must be there already; "" or nothing otherwise
-- Returns   {"ok"}, or {"gone"}

register("attach", {}, function(keys, args)
  local m, problem = settings(keys)
  if not m then
    return problem
  elseif args[4] == "1" and not m[1] then
    return { "gone" }
  end
  redis.call("ZCARD", keys[MEMBERS]) -- a wrong type fails here, before the first write
  redis.call("HSET", keys[META], "layout", LAYOUT)
  redis.call("ZADD", keys[MEMBERS], whole((clock()) + tonumber(args[3])), args[2])
  keep_alive(keys, args[1])
  return { "ok" }
end)

-- detach: end members that hold nothing of an object but the object itself. An anonymous object goes with its last one.
--
-- KEYS      the object's keys (object)
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2..] members (16 bytes each)
-- Returns   {"ok"}

register("detach", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "lone")
  if not m then
    return problem
  elseif m[2] then
    unfold(keys, m[2])
  end
  redis.call("HLEN", keys[LOG]) -- a wrong type fails here, before the first write
  redis.call("ZREM", keys[MEMBERS], unpack(args, 2))
  redis.call("HDEL", keys[LOG], unpack(args, 2))
  if args[1] ~= "" and redis.call("ZCARD", keys[MEMBERS]) == 0 then
    redis.call("UNLINK", unpack(keys))
  end
  return { "ok" }
end)

-- unlink: remove an object with all that it holds, whoever uses it.
--
-- KEYS      the object's keys (object)
-- Returns   {"ok"}

register("unlink", { "allow-oom" }, function(keys)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  redis.call("UNLINK", unpack(keys))
  return { "ok" }
end)
