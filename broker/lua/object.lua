-- object: what the functions of queues, locks and the other words of multiprocessing share. Each function of a kind gets
-- the same keys, those of one object: meta, members and log first, then the parts of the kind; the last never exists
-- (see lib). A member is somebody who holds or awaits something of the object, under a lease.

local MEMBERS, LOG, WAITERS = 2, 3, 4

local WAITING_LEASE = 5000 -- ms: who waits asks again every 2 s, so that a dead one is passed over soon
local IDLE_TTL = 172800000 -- ms: what nobody uses and nobody misses goes within two days
local RENEW_EVERY = 256 -- calls of a member, far less than it makes within that time
local SWEEP = 50 -- members a call whose lease has ended

-- An anonymous object goes with its last holder: its keys expire unless somebody renews them.
local function keep_alive(keys, ttl)
  if ttl ~= "" then
    for _, key in ipairs(keys) do
      redis.call("PEXPIRE", key, ttl)
    end
  end
end

-- Tells a member a word on the channel of its process. It may be lost, so who waits also asks again.
local function tell(keys, member, word)
  local namespace = string.match(keys[META], "^[^:]*")
  redis.call("PUBLISH", namespace .. ":client:" .. string.sub(member, 1, 10), member .. word)
end

-- Tells several members one word (at most 255 bytes), in one message a process.
local function tell_all(keys, members, word)
  local processes, of = {}, {}
  for _, member in ipairs(members) do
    local process = string.sub(member, 1, 10)
    if not of[process] then
      of[process] = {}
      processes[#processes + 1] = process
    end
    table.insert(of[process], member)
  end
  local namespace = string.match(keys[META], "^[^:]*")
  for _, process in ipairs(processes) do
    local message = "*" .. string.char(#word) .. word .. table.concat(of[process])
    redis.call("PUBLISH", namespace .. ":client:" .. process, message)
  end
end

-- The members whose lease has ended, at most 50 a call.
local function ended_members(keys, ms)
  return redis.call("ZRANGEBYSCORE", keys[MEMBERS], "-inf", whole(ms), "LIMIT", "0", SWEEP)
end

-- When the first lease of a member ends (ms), nil where there is none.
local function next_member_end(keys)
  local row = redis.call("ZRANGE", keys[MEMBERS], "0", "0", "WITHSCORES")
  return row[2] and tonumber(row[2])
end

-- What the field `lone` of a semaphore says (see there): the last fence, and, where it has a lone holder, who that is and
-- when its lease ends (ms), as it was granted at that time (µs).
local function parse_lone(lone)
  local fence = string.sub(lone, 1, 16)
  if #lone == 20 then
    return fence
  end
  local member, lease = struct.unpack("<c16I4", lone, 21)
  return fence, member, math.floor(fence / 1000) + lease
end

-- Writes that down as any other semaphore has it, and answers the last fence, and the lone holder, nil where there is none.
-- It changes how the state is written, not what it says, so checks may follow.
local function unfold(keys, lone)
  local fence, member, ends = parse_lone(lone)
  if member then
    redis.call("ZADD", keys[MEMBERS], whole(ends), member)
    redis.call("HSET", keys[META], "fence", fence, "held", "1", member, fence)
  else
    redis.call("HSET", keys[META], "fence", fence)
  end
  redis.call("HDEL", keys[META], "lone")
  return fence, member
end

-- A place at the end of a line of waiters.
local function next_ticket(line, us)
  local last = redis.call("ZRANGE", line, "-1", "-1", "WITHSCORES")
  return whole(math.max(us, last[2] and tonumber(last[2]) + 1 or 0))
end

-- What is known of members goes when nobody has used the object for long, and so does the object where its kind says so.
local function expire_idle(o, kind)
  redis.call("PEXPIRE", o.keys[MEMBERS], whole(IDLE_TTL))
  redis.call("PEXPIRE", o.keys[LOG], whole(IDLE_TTL))
  if kind.is_idle and kind.is_idle(o) then
    redis.call("PEXPIRE", o.keys[META], whole(IDLE_TTL))
  end
end

-- Registers a numbered step of a member: its arguments begin with the time to live of an anonymous object (ms, or ""),
-- the member (16 bytes), the number of its call and its lease (ms). The number is used up when `body` did something
-- (its second answer): the last number again answers the same, a lower one is lost. `kind.fields` are read from meta
-- into o.m; `kind.drop(o, member)` takes back what a member held whose lease has ended; `kind.is_idle(o)`, where there is one, tells whether
-- meta says nothing that would be missed if nobody came for long; o.leave ends the caller's row.
-- A body whose answer is large keeps that itself: it answers a third value, which is logged instead, and of which
-- `kind.recall(keys, member, logged)` makes the answer again.
local function step(verb, flags, kind, body)
  register(verb, flags, function(keys, args)
    local m, problem = settings(keys, unpack(kind.fields))
    if not m then
      return problem
    end
    local o = { keys = keys, args = args, m = {}, who = args[2], lease = tonumber(args[4]) }
    for i, field in ipairs(kind.fields) do
      o.m[field] = m[i + 1]
    end
    local number = tonumber(args[3])
    local log = redis.call("HGET", keys[LOG], o.who)
    local last = last_number(log)
    if number < last or number > 1 and not log then
      return { "lost" }
    elseif number == last then
      local logged = cmsgpack.unpack(string.sub(log, 5))
      return kind.recall and kind.recall(keys, o.who, logged) or logged
    end
    o.ms, o.us = clock()
    for _, member in ipairs(ended_members(keys, o.ms)) do
      if member ~= o.who then
        redis.call("ZREM", keys[MEMBERS], member)
        redis.call("HDEL", keys[LOG], member)
        kind.drop(o, member)
      end
    end
    local reply, done, logged = body(o)
    if o.leave then
      redis.call("ZREM", keys[MEMBERS], o.who)
      redis.call("HDEL", keys[LOG], o.who)
    else
      if done or last ~= number - 1 then -- who is answered by another's step is, so to speak, one call behind
        local row = struct.pack("<I4", done and number or number - 1) .. cmsgpack.pack(logged or reply)
        redis.call("HSET", keys[LOG], o.who, row)
      end
      redis.call("ZADD", keys[MEMBERS], whole(o.ms + o.lease), o.who)
    end
    if not m[1] then
      redis.call("HSET", keys[META], "layout", LAYOUT)
    end
    if not (done and log) or number % RENEW_EVERY < 2 then -- who waits does that with each call; some count in twos
      expire_idle(o, kind)
    end
    keep_alive(keys, args[1])
    return reply
  end)
end
