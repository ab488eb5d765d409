-- Barriers. In meta: how many `parties` meet, the number of this `generation`, and the `phase`: nothing while it fills,
-- "acting" while the last arriver runs the action, "broken". Who waits stands in the line `waiters` by arrival; those
-- behind the first `parties` belong to the next generation. The step that ends a wait writes its answer into the log, as
-- the answer of the call that the member waits in.

local BARRIER = { fields = { "parties", "phase", "generation" } }

local function generation(o)
  return tonumber(o.m.generation) or 0
end

-- Ends the wait of these members with `reply(i)`, and tells them the word. The caller gets its answer from its own call.
local function answer(o, line, reply, word)
  local others = {}
  for i = 1, #line, CHUNK do
    local members = { unpack(line, i, math.min(i + CHUNK - 1, #line)) }
    local logs, rows = redis.call("HMGET", o.keys[LOG], unpack(members)), {}
    for j, member in ipairs(members) do
      if member ~= o.who then
        others[#others + 1] = member
        rows[#rows + 1] = member
        rows[#rows + 1] = struct.pack("<I4", last_number(logs[j]) + 1) .. cmsgpack.pack(reply(i + j - 1))
      end
    end
    if rows[1] then
      redis.call("HSET", o.keys[LOG], unpack(rows))
    end
  end
  tell_all(o.keys, others, word .. whole(generation(o)))
end

-- The next generation begins, in this phase.
local function begin(o, phase)
  local n = whole(generation(o) + 1)
  redis.call("HSET", o.keys[META], "generation", n)
  o.m.generation, o.m.phase = n, phase
  if phase then
    redis.call("HSET", o.keys[META], "phase", phase)
    redis.call("PERSIST", o.keys[META])
  else
    redis.call("HDEL", o.keys[META], "phase")
    redis.call("PEXPIRE", o.keys[META], whole(IDLE_TTL))
  end
end

-- Everybody who waits gets "broken".
local function break_line(o, phase)
  local line = redis.call("ZRANGE", o.keys[WAITERS], "0", "-1")
  redis.call("UNLINK", o.keys[WAITERS])
  answer(o, line, function()
    return { "broken" }
  end, "broken")
  begin(o, phase)
end

-- The first of the line pass. Where enough are left for the next generation, its last one is told to act.
local function open(o, parties)
  local last, now = whole(parties - 1), whole(generation(o))
  local line = redis.call("ZRANGE", o.keys[WAITERS], "0", last)
  redis.call("ZREMRANGEBYRANK", o.keys[WAITERS], "0", last)
  answer(o, line, function(i)
    return { "ok", whole(i - 1), now }
  end, "ok")
  local next = redis.call("ZRANGE", o.keys[WAITERS], last, last)[1]
  begin(o, next and "acting")
  if next then
    tell(o.keys, next, "act" .. whole(generation(o)))
  end
end

-- Who dies while it waits breaks the barrier: the others would wait for ever.
function BARRIER.drop(o, member)
  if redis.call("ZREM", o.keys[WAITERS], member) == 1 then
    break_line(o, "broken")
  end
end

-- A broken one stays broken; one that nobody waits at is like a new one.
function BARRIER.is_idle(o)
  return not o.m.phase
end

-- barrier_wait: arrive, and wait until all parties have. Asked again, it answers what became of it.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of the call
-- ARGV[4]   lease (ms)
-- ARGV[5]   how many parties meet
-- ARGV[6]   "1" where the last arriver runs an action before it opens the barrier
-- ARGV[7]   "arrive"; "wait" to ask again for who was told to; "leave" to give up, which breaks the barrier
-- Returns   {"wait", index, generation}, {"act", index, generation} for who is to run the action and then open,
--           {"ok", index, generation}, {"broken"}, {"other", how many parties meet}, or {"lost"}

step("barrier_wait", {}, BARRIER, function(o)
  local keys, parties = o.keys, tonumber(o.args[5])
  local rank, count = redis.call("ZRANK", keys[WAITERS], o.who), redis.call("ZCARD", keys[WAITERS])
  if o.m.parties ~= o.args[5] then
    if o.m.parties and (count > 0 or o.m.phase) then
      return { "other", o.m.parties }, true
    end
    redis.call("HSET", keys[META], "parties", o.args[5])
  end
  if o.m.phase == "broken" then
    return { "broken" }, true
  elseif o.args[7] == "leave" then
    if rank then
      break_line(o, "broken")
    end
    return { "broken" }, true
  elseif not rank then
    if o.args[7] == "wait" then
      return { "broken" }, true -- its lease had ended
    end
    redis.call("ZADD", keys[WAITERS], next_ticket(keys[WAITERS], o.us), o.who)
    rank, count = count, count + 1
  end
  local place = { "wait", whole(rank % parties), whole(generation(o) + math.floor(rank / parties)) }
  if rank ~= parties - 1 then
    return place
  elseif o.args[6] == "1" or o.m.phase then
    redis.call("HSET", keys[META], "phase", "acting")
    place[1] = "act"
  else
    open(o, parties)
    place[1] = "ok"
  end
  return place, true
end)

-- barrier_open: the action of the last arriver ended. All parties pass; where it failed, the barrier breaks.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of the call
-- ARGV[4]   lease (ms)
-- ARGV[5]   "1" where the action went well, "0" where it failed
-- Returns   {"ok", index, generation}, {"broken"}, or {"lost"}

step("barrier_open", {}, BARRIER, function(o)
  local rank, parties = redis.call("ZRANK", o.keys[WAITERS], o.who), tonumber(o.m.parties)
  if not rank then
    return { "broken" }, true
  elseif o.args[5] == "0" then
    break_line(o, "broken")
    return { "broken" }, true
  end
  local passed = { "ok", whole(rank), whole(generation(o)) }
  open(o, parties)
  return passed, true
end)

-- barrier_abort: break the barrier until it is reset.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of the call
-- ARGV[4]   lease (ms)
-- Returns   {"ok"}, or {"lost"}

step("barrier_abort", { "allow-oom" }, BARRIER, function(o)
  break_line(o, "broken")
  return { "ok" }, true
end)

-- barrier_reset: who waits gets "broken", and the barrier fills anew.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of the call
-- ARGV[4]   lease (ms)
-- Returns   {"ok"}, or {"lost"}

step("barrier_reset", { "allow-oom" }, BARRIER, function(o)
  break_line(o, nil)
  return { "ok" }, true
end)

-- barrier_look: how it stands.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- Returns   {"filling", "acting" or "broken", how many stand in line}

register("barrier_look", { "no-writes" }, function(keys)
  local m, problem = settings(keys, "phase")
  if not m then
    return problem
  end
  return { m[2] or "filling", whole(redis.call("ZCARD", keys[WAITERS])) }
end)
