-- Conditions of a lock, in the lock's own slot and with its keys. Who waits for a notification is a sleeper: a member in
-- `sleepers:<condition>`, in order. A notification moves sleepers into the lock's line, so they hold the lock when they
-- wake. Until it gives the lock back, a member that was notified has the condition in the log: when it dies before, the
-- next sleeper is notified instead.

local SLEEPERS_TTL = 60000 -- ms: sleepers ask every 2 s, so none lives in what expires

local function read_lock(keys, who)
  local s, problem = read_semaphore(keys, who)
  if s then
    s.n = s.n or 1 -- also where the rest of it was lost
  end
  return s, problem
end

-- cond_wait: give the lock up and sleep, in one step. Asked again, it answers what became of the sleeper.
--
-- KEYS      the keys of the lock (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member that holds the lock (16 bytes)
-- ARGV[3]   member that sleeps, and is to hold the lock next (16 bytes)
-- ARGV[4]   condition
-- Returns   its grant (sem_acquire), {"wait"}, or {"gone"} where the first does not hold the lock and the other is not
--           known (any more)

register("cond_wait", { "allow-oom" }, function(keys, args)
  local holder, who = args[2], args[3]
  local s, problem = read_lock(keys, who)
  if not s then
    return problem
  end
  local ms, us = clock()
  local sleepers, deadline = part(keys, "sleepers:" .. args[4]), whole(ms + WAITING_LEASE)
  local asleep = redis.call("ZSCORE", sleepers, who)
  local stands = s.mine or asleep or redis.call("ZSCORE", keys[WAITERS], who)
  redis.call("HLEN", keys[LOG]) -- wrong types fail here, before the first write
  if s.mine then
    redis.call("ZADD", keys[MEMBERS], deadline, who)
    return s.mine
  end
  sweep_semaphore(s, who, ms)
  local falls = not stands and redis.call("HDEL", keys[META], holder) == 1
  if not stands and not falls then
    return { "gone" }
  end
  redis.call("ZADD", keys[MEMBERS], deadline, who)
  if falls then
    redis.call("ZREM", keys[MEMBERS], holder)
    redis.call("HDEL", keys[LOG], holder)
    s.held = s.held - 1
    redis.call("HSET", keys[META], "held", whole(s.held), "conditions", "1")
    redis.call("ZADD", sleepers, next_ticket(sleepers, us), who)
  end
  redis.call("PEXPIRE", sleepers, whole(SLEEPERS_TTL))
  local mine = hand_over(s, ms, us)[who]
  keep_alive(keys, args[1])
  return mine or { "wait" }
end)

-- cond_leave: sleep no longer. Who was notified before keeps its place in the lock's line, or the lock.
--
-- KEYS      the keys of the lock (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member that sleeps (16 bytes)
-- ARGV[3]   condition
-- ARGV[4]   "1" to give that up as well, and to pass the notification on; else "0", which renews it
-- Returns   its grant (sem_acquire) or {"wait"} where it was notified, or {"gone"}

register("cond_leave", { "allow-oom" }, function(keys, args)
  local who, condition = args[2], args[3]
  local s, problem = read_lock(keys, who)
  if not s then
    return problem
  end
  local sleepers = part(keys, "sleepers:" .. condition)
  local asleep, in_line = redis.call("ZSCORE", sleepers, who), redis.call("ZSCORE", keys[WAITERS], who)
  redis.call("HLEN", keys[LOG]) -- wrong types fail here, before the first write
  if asleep then
    redis.call("ZREM", sleepers, who)
    redis.call("ZREM", keys[MEMBERS], who)
    return { "gone" }
  elseif not s.mine and not in_line then
    return { "gone" }
  elseif args[4] == "0" then
    redis.call("ZADD", keys[MEMBERS], whole((clock()) + WAITING_LEASE), who)
    return s.mine or { "wait" }
  end
  local ms, us = clock()
  redis.call("ZREM", keys[WAITERS], who)
  redis.call("ZREM", keys[MEMBERS], who)
  redis.call("HDEL", keys[LOG], who)
  if s.mine then
    redis.call("HDEL", keys[META], who)
    s.held = s.held - 1
    s.abandoned = s.abandoned or string.find(s.mine, "!", 1, true) and "1"
    redis.call("HSET", keys[META], "held", whole(s.held), s.abandoned and "abandoned" or "conditions", "1")
  end
  wake_sleepers(s, condition, 1, ms)
  hand_over(s, ms, us)
  keep_alive(keys, args[1])
  return { "gone" }
end)

-- cond_notify: move sleepers into the lock's line, the first come first; at most 500 a call.
--
-- KEYS      the keys of the lock (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member that holds the lock (16 bytes)
-- ARGV[3]   the call (16 bytes), new for each
-- ARGV[4]   condition
-- ARGV[5]   how many at most
-- Returns   {"ok", how many, "1" where sleepers are left}, or {"gone"} where it does not hold the lock

register("cond_notify", { "allow-oom" }, function(keys, args)
  local s, problem = read_lock(keys, args[2])
  if not s then
    return problem
  elseif not s.mine then
    return { "gone" }
  end
  -- Only the holder notifies, so the last call is the only one that may come again.
  local last = redis.call("HGET", keys[META], "notified")
  if last and string.sub(last, 1, 16) == args[3] then
    return cmsgpack.unpack(string.sub(last, 17))
  end
  redis.call("ZCARD", part(keys, "sleepers:" .. args[4])) -- wrong types fail here, before the first write
  redis.call("ZCARD", keys[WAITERS])
  redis.call("HLEN", keys[LOG])
  local woken, left = wake_sleepers(s, args[4], tonumber(args[5]), (clock()))
  local reply = { "ok", whole(woken), left and "1" or "0" }
  redis.call("HSET", keys[META], "notified", args[3] .. cmsgpack.pack(reply))
  keep_alive(keys, args[1])
  return reply
end)
