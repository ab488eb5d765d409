-- Semaphores; a lock is one of a single permit. Its state is in meta: `n` permits, `extra` (posted, less those leaked),
-- `held`, the last `fence`, `abandoned`, the fence of the last that was `taken` by force, and a field for each holder:
-- its fence, and "!" where it got what a dead one held. Who waits is in the line `waiters`, and is granted a permit in
-- the step that frees one. Permits are free only while nobody waits, and `line` says whether somebody may, so an
-- uncontended call looks at nothing else.
--
-- While all are free and nothing but the fence has to be remembered, the one field `lone` says so: the last fence (16
-- digits), n (4 bytes, little-endian). Who takes one then is a lone holder: `lone` also has its member (16 bytes) and the
-- length of its lease (ms, 4 bytes), and stands for its row in `members`, its field and `held`; its fence is the time of
-- its grant. It comes and goes by that field alone, in calls that have the one key `meta` and no other. Any other call first
-- has it written down as other holders are (see unfold in object), and `lone` is gone until a release leaves all free.

local GRANT_LEASE = 3000 -- ms: who waits and is granted says soon that it knows, or another gets it
local POST_LEASE = 30000 -- ms: a post is known by its caller for longer than anybody sends it again

local function parse_fields(keys, m)
  return {
    keys = keys,
    new = not m[1],
    n = tonumber(m[2]),
    extra = tonumber(m[3]) or 0,
    held = tonumber(m[4]) or 0,
    fence = tonumber(m[5]) or 0,
    abandoned = m[6],
    line = m[7],
    conditions = m[8],
    lone = m[9],
    mine = m[10],
  }
end

-- How it stands, with what `who` holds. Only where nothing may be written a lone holder `stays`.
local function read_semaphore(keys, who, stays)
  local m, problem = settings(keys, "n", "extra", "held", "fence", "abandoned", "line", "conditions", "lone", who)
  if not m then
    return nil, problem
  end
  local s = parse_fields(keys, m)
  if s.lone and not stays then
    local fence, member = unfold(keys, s.lone)
    s.fence = tonumber(fence)
    s.held = member and 1 or 0
    s.mine = member == who and fence
  end
  return s
end

-- Whether a grant with this fence prolongs it (IDLE_TTL), so that it lives while in use, but few pay for that: the first in
-- each 100,000 s, when the 5th of a fence's 16 digits changes. The time since the last grant would not do: one in use all
-- the time would never be prolonged.
local function prolongs(fence, last)
  return string.byte(fence, 5) ~= string.byte(last, 5)
end

-- The time of the server as a fence, by strings alone: to convert a number costs as much as a command.
local function fence_now()
  local time = redis.call("TIME")
  local s, us = time[1], time[2]
  return s .. (#us == 6 and us or string.sub("00000" .. us, -6))
end

-- Ends a lone holder. Answers whether it was `who`.
local function end_lone(keys, lone, who)
  if not lone or #lone ~= 40 or string.sub(lone, 21, 36) ~= who then
    return false
  end
  redis.call("HSET", keys[META], "lone", string.sub(lone, 1, 20))
  return true
end

-- Has the next who takes one be a lone holder, where all are free and nothing has to be remembered.
local function fold(s)
  local fence = whole(s.fence)
  if s.n > 0 and s.n < 4294967296 and s.held == 0 and s.extra == 0 and not s.abandoned and #fence == 16 then
    redis.call("HSET", s.keys[META], "lone", fence .. struct.pack("<I4", s.n))
  end
end

local function free_permits(s)
  return s.n + s.extra - s.held
end

local function waits(s)
  return redis.call("ZRANGE", s.keys[WAITERS], "0", "0")[1]
end

-- Whether it has, or may be given, so many permits: the number is free while nobody uses it.
local function has_size(s, n)
  if s.n and s.n ~= n and (s.held > 0 or s.extra ~= 0 or waits(s)) then
    return false
  end
  s.n = n
  return true
end

-- Makes a member, whose row stands, a holder; answers its field, which is all that it is told.
local function grant(s, member, us)
  local last = whole(s.fence)
  s.fence = math.max(s.fence + 1, us)
  s.held = s.held + 1
  local fence = whole(s.fence)
  local mine = fence .. (s.abandoned and "!" or "")
  redis.call("HSET", s.keys[META], "layout", LAYOUT, "n", whole(s.n), "held", whole(s.held), "fence", fence, member, mine)
  if s.abandoned then
    redis.call("HDEL", s.keys[META], "abandoned")
    s.abandoned = nil
  end
  if s.extra == 0 and prolongs(fence, last) then
    redis.call("PEXPIRE", s.keys[META], whole(IDLE_TTL))
  end
  return mine
end

-- Gives what is free to those who wait, in their order; who has died is passed over. Their leases are short until they
-- say that they know.
local function hand_over(s, ms, us)
  local granted = {}
  while free_permits(s) > 0 do
    local next = redis.call("ZPOPMIN", s.keys[WAITERS])[1]
    if not next then
      redis.call("HDEL", s.keys[META], "line")
      break
    end
    local ends = tonumber(redis.call("ZSCORE", s.keys[MEMBERS], next) or 0)
    if ends > ms then
      if ends > ms + GRANT_LEASE then
        redis.call("ZADD", s.keys[MEMBERS], whole(ms + GRANT_LEASE), next)
      end
      granted[next] = grant(s, next, us)
      tell(s.keys, next, granted[next])
    end -- else the sweep ends its row
  end
  return granted
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
  if woken > 0 then
    redis.call("HSET", s.keys[META], "line", "1")
    s.line = "1"
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

-- One whose permits were posted or leaked stays as it is; else it goes when nobody has used it for long.
local function settle(s)
  if s.extra ~= 0 then
    redis.call("PERSIST", s.keys[META])
  else
    redis.call("PEXPIRE", s.keys[META], whole(IDLE_TTL))
  end
end

-- sem_acquire: take a permit, or a place in the line for one. Asked again, it answers what became of it, and renews it.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes), a new one for each permit
-- ARGV[3]   lease (ms)
-- ARGV[4]   how many permits there are in all; 1 is a lock
-- ARGV[5]   "1" to wait in line, "0" not to
-- Returns   its grant: the fence, and "!" if a dead holder had it; or {"wait", ms until the next lease ends, "" for who is
--           not the first in line, the last fence: news of a grant with no higher one is old}, {"busy"}, or {"other", how
--           many permits there are}

register("sem_acquire", {}, function(keys, args)
  local who, n = args[2], tonumber(args[4])
  local s, problem = read_semaphore(keys, who)
  if not s then
    return problem
  end
  local ms, us = clock()
  local deadline = whole(ms + tonumber(args[3]))
  if s.mine then
    redis.call("ZADD", keys[MEMBERS], deadline, who)
    keep_alive(keys, args[1])
    return s.mine
  elseif not has_size(s, n) then
    return { "other", whole(s.n) }
  elseif s.new then
    redis.call("UNLINK", keys[MEMBERS], keys[LOG], keys[WAITERS]) -- of one that was lost with its meta
  end
  local mine
  if free_permits(s) <= 0 then
    redis.call("ZCARD", keys[WAITERS]) -- wrong types fail here, before the first write
    redis.call("HLEN", keys[LOG])
    sweep_semaphore(s, who, ms)
    if args[5] == "1" then
      redis.call("ZADD", keys[MEMBERS], whole(ms + WAITING_LEASE), who)
    end
    mine = hand_over(s, ms, us)[who]
  end
  if mine or free_permits(s) > 0 then
    redis.call("ZADD", keys[MEMBERS], deadline, who)
    mine = mine or grant(s, who, us)
    keep_alive(keys, args[1])
    return mine
  elseif args[5] == "0" then
    return { "busy" }
  end
  if not redis.call("ZSCORE", keys[WAITERS], who) then
    redis.call("ZADD", keys[WAITERS], next_ticket(keys[WAITERS], us), who)
  end
  if not s.line then
    redis.call("HSET", keys[META], "layout", LAYOUT, "n", whole(n), "line", "1")
  end
  if s.held == 0 then -- nobody else prolongs it
    settle(s)
  end
  keep_alive(keys, args[1])
  local ends = waits(s) == who and next_member_end(keys)
  return { "wait", ends and whole(math.max(ends - ms, 1)) or "", whole(s.fence) }
end)

-- sem_release: give a permit back, or the place in the line up. What is free goes to the next who waits.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   "back"; "leak" to leave the permit taken, so that only sem_post frees it; or "unused" where nobody has
--           learned of it, so that the next one is told of the dead holder
-- ARGV[4]   its fence, "0" where it is not known
-- Returns   "ok"; "gone" where it has none (any more), as after a first try; "taken" where sem_post took it

register("sem_release", { "allow-oom" }, function(keys, args)
  local who, how = args[2], args[3]
  local m, problem = settings(keys, "lone")
  if not m then
    return problem
  elseif how == "back" and end_lone(keys, m[2], who) then -- the usual case, short
    keep_alive(keys, args[1])
    return "ok"
  end
  local s = read_semaphore(keys, who)
  if s.line or not s.mine then
    redis.call("ZCARD", keys[WAITERS]) -- wrong types fail here or with the first write
  end
  redis.call("ZREM", keys[MEMBERS], who)
  if not s.mine then
    redis.call("ZREM", keys[WAITERS], who)
    return redis.call("HGET", keys[META], "taken") == args[4] and "taken" or "gone"
  end
  redis.call("HDEL", keys[META], who)
  if s.conditions then
    redis.call("HDEL", keys[LOG], who)
  end
  s.held = s.held - 1
  redis.call("HSET", keys[META], "held", whole(s.held))
  if how == "leak" then
    s.extra = redis.call("HINCRBY", keys[META], "extra", "-1")
    settle(s)
  elseif how == "unused" and string.find(s.mine, "!", 1, true) then
    s.abandoned = "1"
    redis.call("HSET", keys[META], "abandoned", "1")
  end
  if s.line then
    hand_over(s, clock())
  else
    fold(s)
  end
  keep_alive(keys, args[1])
  return "ok"
end)

-- sem_acquire_lone: take a permit where all are free and nothing has to be remembered, the usual case, at the least cost.
-- Whether that is so, `meta` alone tells, so no other key is given, and a slot that moves does not hold it up.
--
-- KEYS[1]   meta of the object
-- ARGV[1]   how many permits there are in all (4 bytes, little-endian), member (16 bytes), lease (ms, 4 bytes)
-- Returns   the fence, or "no": then ask sem_acquire, also where the answer to an earlier try was lost

register("sem_acquire_lone", {}, function(keys, args)
  local holder = args[1]
  local lone = redis.call("HGET", keys[META], "lone") -- which no other layout has
  if not lone or #lone ~= 20 or string.sub(lone, 17) ~= string.sub(holder, 1, 4) then
    return "no"
  end
  local fence = fence_now()
  if lone >= fence or prolongs(fence, lone) then
    return "no"
  end
  redis.call("HSET", keys[META], "lone", fence .. holder)
  return fence
end)

-- sem_release_lone: give a permit back that sem_acquire_lone gave, where nobody else has asked for one since.
--
-- KEYS[1]   meta of the object
-- ARGV[1]   member (16 bytes)
-- Returns   "ok", or "no": then ask sem_release, also where the answer to an earlier try was lost

register("sem_release_lone", { "allow-oom" }, function(keys, args)
  local lone = redis.call("HGET", keys[META], "lone")
  return end_lone(keys, lone, args[1]) and "ok" or "no"
end)

-- The holder that loses its permit to a post: one whose lease has ended, else the one that has held it longest.
local function loser(s, ms)
  for _, member in ipairs(ended_members(s.keys, ms)) do
    if redis.call("HEXISTS", s.keys[META], member) == 1 then
      return member, true
    end
  end
  local fields, oldest, first = redis.call("HGETALL", s.keys[META]), nil, math.huge
  for i = 1, #fields, 2 do
    local fence = #fields[i] == 16 and tonumber(string.match(fields[i + 1], "%d+"))
    if fence and fence < first then
      oldest, first = fields[i], fence
    end
  end
  return oldest, false
end

local function take_away(s, member, is_dead)
  local fence = string.match(redis.call("HGET", s.keys[META], member), "%d+")
  redis.call("ZREM", s.keys[MEMBERS], member)
  redis.call("HDEL", s.keys[META], member)
  redis.call("HDEL", s.keys[LOG], member)
  s.held = s.held - 1
  redis.call("HSET", s.keys[META], "held", whole(s.held), "taken", fence)
  if is_dead then
    s.abandoned = "1"
    redis.call("HSET", s.keys[META], "abandoned", "1")
  end
end

-- sem_post: free a permit, whoever holds it. It is one that was leaked, else, where they are bounded, one that somebody
-- holds and so loses; else there is one permit more.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   the caller (16 bytes), a new one for each call
-- ARGV[3]   how many permits there are in all
-- ARGV[4]   "1" where there may not be more than those, as for a lock, else "0"
-- Returns   {"ok"}, {"unheld"} where all are free, or {"other", how many permits there are}

register("sem_post", { "allow-oom" }, function(keys, args)
  local who, n = args[2], tonumber(args[3])
  local s, problem = read_semaphore(keys, who)
  if not s then
    return problem
  elseif redis.call("HEXISTS", keys[LOG], who) == 1 then
    return { "ok" }
  elseif not has_size(s, n) then
    return { "other", whole(s.n) }
  end
  local is_full = args[4] == "1" and s.extra >= 0
  if is_full and s.held == 0 then
    return { "unheld" }
  end
  redis.call("ZCARD", keys[WAITERS]) -- wrong types fail here or with the first write
  local ms, us = clock()
  notified_by(s, ended_members(keys, ms)) -- probes what the sweep names
  local member, is_dead
  if is_full then
    member, is_dead = loser(s, ms)
  end
  redis.call("ZADD", keys[MEMBERS], whole(ms + POST_LEASE), who)
  redis.call("HSET", keys[LOG], who, "1")
  redis.call("HSET", keys[META], "layout", LAYOUT, "n", whole(n))
  if member then
    take_away(s, member, is_dead)
  else
    s.extra = redis.call("HINCRBY", keys[META], "extra", "1")
  end
  sweep_semaphore(s, who, ms)
  hand_over(s, ms, us)
  settle(s)
  keep_alive(keys, args[1])
  return { "ok" }
end)

-- sem_look: how it stands. What dead members hold counts as free.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- Returns   {n or "", permits that are free or "", held, waiting}

register("sem_look", { "no-writes" }, function(keys)
  local s, problem = read_semaphore(keys, "n", true)
  if not s then
    return problem
  end
  local ms = clock()
  for _, member in ipairs(ended_members(keys, ms)) do
    s.held = s.held - redis.call("HEXISTS", keys[META], member)
  end
  if s.lone then
    local _, holder, ends = parse_lone(s.lone)
    s.held = holder and ends > ms and 1 or 0
  end
  local free = s.n and whole(free_permits(s)) or ""
  return { s.n and whole(s.n) or "", free, whole(s.held), whole(redis.call("ZCARD", keys[WAITERS])) }
end)
