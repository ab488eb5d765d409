-- Semaphores; a lock is one of a single permit. Its state is in meta: `n` permits, `extra` (posted, less those leaked),
-- `held`, the last `fence`, `abandoned`, and a field for each holder: its fence, and "!" where it got what a dead one
-- held. Who waits is in the line `waiters`, and is granted a permit in the step that frees one. Permits are free only
-- while nobody waits, so an uncontended call looks at nothing else.

local IDLE_TTL = 172800000 -- ms: the fence of a lock that nobody uses is kept for two days; it grows with the clock anyway
local PERSIST_AFTER = 86400000000 -- µs since the last grant

local function read_semaphore(keys, who)
  local m, problem = settings(keys, "n", "extra", "held", "fence", "abandoned", who, "conditions")
  if not m then
    return nil, problem
  end
  return {
    keys = keys,
    n = tonumber(m[2]),
    extra = tonumber(m[3]) or 0,
    held = tonumber(m[4]) or 0,
    fence = tonumber(m[5]) or 0,
    abandoned = m[6],
    mine = m[7],
    conditions = m[8],
  }
end

local function free_permits(s)
  return s.n + s.extra - s.held
end

local function waits(s)
  return redis.call("ZRANGE", s.keys[WAITERS], "0", "0")[1]
end

-- What a holder's field says: its fence, and whether it got what a dead one held.
local function parse_grant(grant)
  return { "ok", string.match(grant, "%d+"), string.find(grant, "!", 1, true) and "1" or "0" }
end

-- Makes a member a holder; answers its field.
local function grant(s, member, us, deadline)
  local before = s.fence
  s.fence = math.max(before + 1, us)
  s.held = s.held + 1
  local mine = whole(s.fence) .. (s.abandoned and "!" or "")
  redis.call("HSET", s.keys[META], "layout", LAYOUT, "n", whole(s.n), "held", whole(s.held), "fence", whole(s.fence), member, mine)
  if s.abandoned then
    redis.call("HDEL", s.keys[META], "abandoned")
    s.abandoned = nil
  end
  if us - before > PERSIST_AFTER then
    redis.call("PERSIST", s.keys[META])
  end
  if deadline then
    redis.call("ZADD", s.keys[MEMBERS], deadline, member)
  end
  return mine
end

-- Gives what is free to those who wait, in their order. Their leases stay short until they say that they know.
local function hand_over(s, ms, us)
  local granted = {}
  while free_permits(s) > 0 do
    local next = redis.call("ZPOPMIN", s.keys[WAITERS])[1]
    if not next then
      break
    end
    local ends = redis.call("ZSCORE", s.keys[MEMBERS], next)
    if ends and tonumber(ends) > ms then
      granted[next] = grant(s, next, us)
      tell(s.keys, next, granted[next])
    end
  end
  return granted
end

local function write_counts(s)
  redis.call("HSET", s.keys[META], "held", whole(s.held), "extra", whole(s.extra))
end

-- Puts the first sleepers of a condition (see condition) into the line, at most `n`; those whose lease has ended are
-- passed over. Answers how many, and whether some are left. The log keeps who was notified until it gives the lock back.
local function wake_sleepers(s, condition, n, ms)
  local sleepers, woken = part(s.keys, "sleepers:" .. condition), 0
  for _ = 1, CHUNK do
    local who = woken < n and redis.call("ZPOPMIN", sleepers)[1]
    if not who then
      break
    end
    local ends = redis.call("ZSCORE", s.keys[MEMBERS], who)
    if ends and tonumber(ends) > ms then
      redis.call("ZADD", s.keys[WAITERS], next_ticket(s.keys[WAITERS], ms * 1000), who)
      redis.call("HSET", s.keys[LOG], who, ":" .. condition)
      woken = woken + 1
    end
  end
  return woken, redis.call("EXISTS", sleepers) == 1
end

-- The conditions whose notification these members have got, false for the others.
local function notified_by(s, members)
  local conditions = s.conditions and members[1] and redis.call("HMGET", s.keys[LOG], unpack(members)) or {}
  for i, entry in ipairs(conditions) do
    conditions[i] = entry and string.match(entry, "^:(.*)") or false -- posts are in the log as well
    if conditions[i] then
      redis.call("EXISTS", part(s.keys, "sleepers:" .. conditions[i])) -- while its slot moves, this fails before the first write
    end
  end
  return conditions
end

-- Takes back what members held or awaited whose lease has ended. What a condition told them it tells the next.
local function sweep_semaphore(s, who, ms)
  local ended = ended_members(s.keys, ms)
  local conditions = notified_by(s, ended)
  for i, member in ipairs(ended) do
    if member ~= who then
      redis.call("ZREM", s.keys[MEMBERS], member)
      redis.call("ZREM", s.keys[WAITERS], member)
      redis.call("HDEL", s.keys[LOG], member)
      if redis.call("HDEL", s.keys[META], member) == 1 then
        s.held = s.held - 1
        s.abandoned = "1"
        redis.call("HSET", s.keys[META], "held", whole(s.held), "abandoned", "1")
      end
      if conditions[i] then
        wake_sleepers(s, conditions[i], 1, ms)
      end
    end
  end
end

-- Ends the caller's row; the fence of an idle one is kept for a while.
local function quit(s, who)
  redis.call("ZREM", s.keys[MEMBERS], who)
  if s.conditions then
    redis.call("HDEL", s.keys[LOG], who)
  end
  if s.held == 0 then
    redis.call("PEXPIRE", s.keys[META], whole(IDLE_TTL))
  end
end

-- sem_acquire: take a permit, or a place in the line for one. Asked again, it answers what became of it.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes), a new one for each permit
-- ARGV[3]   lease (ms)
-- ARGV[4]   how many permits there are in all; 1 is a lock
-- ARGV[5]   "1" to wait in line, "0" not to
-- Returns   {"ok", fence, "1" if a dead holder had it}, {"wait", ms until the next lease ends, "" for who is not the
--           first in line}, {"busy"}, or {"other", how many permits there are}

register("sem_acquire", {}, function(keys, args)
  local who, n = args[2], tonumber(args[4])
  local s, problem = read_semaphore(keys, who)
  if not s then
    return problem
  elseif s.mine then
    return parse_grant(s.mine)
  end
  s.n = s.n or n
  if s.n ~= n then
    if s.held > 0 or s.extra ~= 0 or waits(s) then
      return { "other", whole(s.n) }
    end
    s.n = n
  end
  local ms, us = clock()
  if free_permits(s) <= 0 then
    redis.call("ZCARD", keys[WAITERS]) -- a wrong type fails here, before the first write
    sweep_semaphore(s, who, ms)
    local mine = hand_over(s, ms, us)[who]
    if mine then
      return parse_grant(mine)
    end
  end
  if free_permits(s) > 0 then
    local mine = grant(s, who, us, whole(ms + tonumber(args[3])))
    keep_alive(keys, args[1])
    return parse_grant(mine)
  elseif args[5] == "0" then
    return { "busy" }
  end
  if not redis.call("ZSCORE", keys[WAITERS], who) then
    redis.call("ZADD", keys[WAITERS], next_ticket(keys[WAITERS], us), who)
  end
  redis.call("ZADD", keys[MEMBERS], whole(ms + WAITING_LEASE), who)
  keep_alive(keys, args[1])
  local ends = waits(s) == who and next_member_end(keys)
  return { "wait", ends and whole(math.max(ends - ms, 1)) or "" }
end)

-- sem_release: give a permit back, or the place in the line up. What is free goes to the next who waits.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   "1" to leave the permit taken, so that only sem_post frees it; "0" to give it back
-- Returns   {"ok"}, or {"gone"} where it holds no permit (any more)

register("sem_release", { "allow-oom" }, function(keys, args)
  local who = args[2]
  local s, problem = read_semaphore(keys, who)
  if not s then
    return problem
  end
  redis.call("ZCARD", keys[MEMBERS]) -- a wrong type fails here, before the first write
  redis.call("ZREM", keys[WAITERS], who)
  if s.mine then
    redis.call("HDEL", keys[META], who)
    s.held = s.held - 1
    if args[3] == "1" then
      s.extra = s.extra - 1
    end
    write_counts(s)
    hand_over(s, clock())
  end
  quit(s, who)
  keep_alive(keys, args[1])
  return { s.mine and "ok" or "gone" }
end)

-- sem_post: free a permit, whoever holds it. Of a lock the holder loses it; of a semaphore one more is free.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   the caller (16 bytes), a new one for each call
-- ARGV[3]   how many permits there are in all
-- ARGV[4]   "lock"; "bounded" to refuse more than those; or "semaphore"
-- Returns   {"ok"}, {"unheld"} where all are free, or {"other", how many permits there are}

register("sem_post", { "allow-oom" }, function(keys, args)
  local who, n = args[2], tonumber(args[3])
  local s, problem = read_semaphore(keys, who)
  if not s then
    return problem
  elseif redis.call("HEXISTS", keys[LOG], who) == 1 then
    return { "ok" }
  end
  if s.n and s.n ~= n then
    return { "other", whole(s.n) }
  end
  s.n = n
  if args[4] ~= "semaphore" and free_permits(s) >= n then
    return { "unheld" }
  end
  redis.call("ZCARD", keys[WAITERS]) -- a wrong type fails here, before the first write
  local holders = redis.call("ZRANGE", keys[MEMBERS], "0", "-1")
  redis.call("HSET", keys[LOG], who, "1")
  redis.call("PEXPIRE", keys[LOG], "60000")
  redis.call("HSET", keys[META], "layout", LAYOUT, "n", whole(n))
  local taken = false
  if args[4] == "lock" and s.held > 0 then
    for _, member in ipairs(holders) do
      if redis.call("HDEL", keys[META], member) == 1 then
        redis.call("ZREM", keys[MEMBERS], member)
        s.held, taken = s.held - 1, true
      end
    end
  end
  if not taken then
    s.extra = s.extra + 1
  end
  write_counts(s)
  hand_over(s, clock())
  keep_alive(keys, args[1])
  return { "ok" }
end)

-- sem_look: how it stands.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- Returns   {n or "", permits that are free or "", held, waiting}

register("sem_look", { "no-writes" }, function(keys)
  local s, problem = read_semaphore(keys, "n")
  if not s then
    return problem
  end
  local free = s.n and whole(free_permits(s)) or ""
  return { s.n and whole(s.n) or "", free, whole(s.held), whole(redis.call("ZCARD", keys[WAITERS])) }
end)
