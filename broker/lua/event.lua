-- Events: a flag that members wait for. In meta: `set` while it is set, and `sets`, how often it was set so far. Who
-- waits stands in `waiters` by that number, so that it has its answer also where the event is cleared again at once.

local EVENT = { fields = { "set", "sets" } }

function EVENT.drop(o, member)
  redis.call("ZREM", o.keys[WAITERS], member)
end

-- The flag stays; that it was set once says something only to who waits.
function EVENT.is_idle(o)
  return not o.m.set
end

-- The answer of the one call that each of them waits in, also where it is sent again and the event is cleared by then.
local function answers(members)
  local rows = {}
  for i, member in ipairs(members) do
    rows[2 * i - 1], rows[2 * i] = member, struct.pack("<I4", 1) .. cmsgpack.pack({ "set" })
  end
  return rows
end

-- event_set: set the event, and wake who waits, at most 500 a call.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of the call
-- ARGV[4]   lease (ms)
-- ARGV[5]   "1" to set it, "0" only to wake those that are left of an earlier call
-- Returns   {"ok", "1" where some are left}, or {"lost"}

step("event_set", { "allow-oom" }, EVENT, function(o)
  local keys, sets = o.keys, tonumber(o.m.sets) or 0
  local anew = o.args[5] == "1" and not o.m.set
  sets = anew and sets + 1 or sets
  local woken = redis.call("ZRANGEBYSCORE", keys[WAITERS], "-inf", "(" .. whole(sets), "LIMIT", "0", CHUNK)
  if anew then
    redis.call("HSET", keys[META], "set", "1", "sets", whole(sets))
    redis.call("PERSIST", keys[META])
    o.m.set = "1"
  end
  if woken[1] then
    redis.call("ZREM", keys[WAITERS], unpack(woken))
    redis.call("HSET", keys[LOG], unpack(answers(woken)))
    tell_all(keys, woken, "set")
  end
  return { "ok", #woken == CHUNK and "1" or "0" }, true
end)

-- event_clear: clear the event.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of the call
-- ARGV[4]   lease (ms)
-- Returns   {"ok"}, or {"lost"}

step("event_clear", { "allow-oom" }, EVENT, function(o)
  redis.call("HDEL", o.keys[META], "set")
  redis.call("PEXPIRE", o.keys[META], whole(IDLE_TTL))
  o.m.set = nil
  return { "ok" }, true
end)

-- event_wait: whether the event is set, or was since the member began to wait; if not, the member is told when it is.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes), a new one for each wait
-- ARGV[3]   number of the call: 1
-- ARGV[4]   lease (ms)
-- ARGV[5]   how often it had been set when the member began to wait; "" at first
-- ARGV[6]   "1" to wait, "0" to wait no longer
-- Returns   {"set"}, {"unset"}, or {"wait", how often it was set so far}

step("event_wait", {}, EVENT, function(o)
  local sets, since = tonumber(o.m.sets) or 0, tonumber(o.args[5])
  local set = o.m.set or since and sets > since
  if set or o.args[6] == "0" then
    redis.call("ZREM", o.keys[WAITERS], o.who)
    o.leave = true
    return { set and "set" or "unset" }
  end
  redis.call("ZADD", o.keys[WAITERS], whole(sets), o.who)
  return { "wait", whole(sets) }
end)

-- event_look: whether it is set.
--
-- KEYS      the object's keys (object): meta, members, log, waiters
-- Returns   {"set"} or {"unset"}

register("event_look", { "no-writes" }, function(keys)
  local m, problem = settings(keys, "set")
  if not m then
    return problem
  end
  return { m[2] and "set" or "unset" }
end)
