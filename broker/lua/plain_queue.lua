-- Plain queues, those of multiprocessing. Items stand in one list, oldest first. Who finds it empty waits in the line
-- `getters`, who finds it full in the line `putters`, and each step serves both lines: the first getter is granted an
-- item, which it collects by asking again, the first putter is granted room for one. So items are free only while no
-- getter waits, room only while no putter does, and who comes later never overtakes. What a member was granted whose
-- lease ends goes to the next.

local ITEMS, GETTERS, PUTTERS, GRANTED, ROOMS, JOINERS = 4, 5, 6, 7, 8, 9
local FIRST_ITEM = 8 -- argument of queue_put
local SMALL = 2048 -- bytes: as many items as a call may move of this size are within its bytes
local IDLE_QUEUE_TTL = 172800000 -- ms: the bound of a queue that is empty and unused is kept for two days

-- Items that were put and not got.
local function queue_size(keys)
  return redis.call("LLEN", keys[ITEMS]) + redis.call("HLEN", keys[GRANTED])
end

local function serve_getters(keys)
  local waiting = redis.call("ZCARD", keys[GETTERS])
  local items = waiting > 0 and redis.call("LLEN", keys[ITEMS]) or 0
  for _ = 1, math.min(waiting, items) do
    local member = redis.call("ZPOPMIN", keys[GETTERS])[1]
    redis.call("HSET", keys[GRANTED], member, redis.call("LPOP", keys[ITEMS]))
    tell(keys, member, "")
  end
end

local function free_room(keys, maxsize)
  return maxsize - queue_size(keys) - redis.call("SCARD", keys[ROOMS])
end

local function serve_putters(keys, maxsize)
  local waiting = redis.call("ZCARD", keys[PUTTERS])
  for _ = 1, waiting > 0 and math.min(waiting, free_room(keys, maxsize)) or 0 do
    local member = redis.call("ZPOPMIN", keys[PUTTERS])[1]
    redis.call("SADD", keys[ROOMS], member)
    tell(keys, member, "")
  end
end

local function serve(keys, maxsize)
  serve_getters(keys)
  if maxsize > 0 then
    serve_putters(keys, maxsize)
  end
end

-- Takes back what a member awaits or was granted.
local function drop_from_queue(o, member)
  for _, line in ipairs({ GETTERS, PUTTERS, JOINERS }) do
    redis.call("ZREM", o.keys[line], member)
  end
  redis.call("SREM", o.keys[ROOMS], member)
  local item = redis.call("HGET", o.keys[GRANTED], member)
  if item then
    redis.call("LPUSH", o.keys[ITEMS], item)
    redis.call("HDEL", o.keys[GRANTED], member)
  end
  o.dropped = true
end

local plain_queue = { fields = { "maxsize", "unfinished", "largest" }, drop = drop_from_queue }

-- Takes the bound that the caller names, where the queue has none or is not in use; answers the refusal otherwise.
local function adopt_maxsize(o, asked)
  local m, keys = o.m, o.keys
  if asked == "" or asked == m.maxsize then
    return nil
  end
  local size = queue_size(keys)
  local others = redis.call("ZCARD", keys[MEMBERS]) - (redis.call("ZSCORE", keys[MEMBERS], o.who) and 1 or 0)
  if m.maxsize and size + others > 0 or tonumber(asked) > 0 and size > tonumber(asked) then
    return { "other", m.maxsize or "0" }
  end
  m.maxsize = asked
  redis.call("HSET", keys[META], "maxsize", asked)
end

-- What each step begins with: the queue's own terms, and what dead members left. Unfinished items are counted from the
-- first time that somebody uses it as a joinable queue.
local function open_queue(o)
  local keys = o.keys
  redis.call("ZCARD", keys[PUTTERS]) -- a wrong type fails here, before the first write
  local other = adopt_maxsize(o, o.args[5])
  if other then
    return other
  end
  if o.args[6] == "1" and not o.m.unfinished then
    o.m.unfinished = queue_size(keys)
    redis.call("HSET", keys[META], "unfinished", whole(o.m.unfinished))
  end
  if o.args[3] == "1" then
    redis.call("PERSIST", keys[META]) -- the queue may have been idle
  end
  o.maxsize = tonumber(o.m.maxsize) or 0
  if o.dropped then
    serve(keys, o.maxsize)
  end
end

-- A place in a line; it is kept from one asking to the next, under a short lease.
local function wait_in(o, line)
  if not redis.call("ZSCORE", o.keys[line], o.who) then
    redis.call("ZADD", o.keys[line], next_ticket(o.keys[line], o.us), o.who)
  end
  o.lease = WAITING_LEASE
  return { "wait" }
end

local function note_largest(o, last)
  local largest = tonumber(o.m.largest) or SMALL
  local before = largest
  for i = FIRST_ITEM, last do
    largest = math.max(largest, #o.args[i])
  end
  if largest > before then
    redis.call("HSET", o.keys[META], "largest", whole(largest))
  end
end

-- queue_put: put items, as many as there is room for, or wait in line for room for one.
--
-- KEYS      the object's keys (object): meta, members, log, items, getters, putters, granted, rooms, joiners
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of its call
-- ARGV[4]   lease (ms)
-- ARGV[5]   maxsize: "" for whichever it has, "0" for none
-- ARGV[6]   "1" to count unfinished items from now on
-- ARGV[7]   "1" to wait in line, "0" not to
-- ARGV[8..] items, at most 500 and 1 MiB, but at least one; none only asks what became of the place in the line
-- Returns   {"ok", how many were put}, {"wait"}, {"room"} where it is its turn to send the items, {"full"},
--           {"other", the maxsize that it has}, or {"lost"} where the member's lease has ended

step("queue_put", {}, plain_queue, function(o)
  local keys, count = o.keys, #o.args - FIRST_ITEM + 1
  local other = open_queue(o)
  if other then
    return other
  elseif count == 0 then
    local waits = redis.call("ZSCORE", keys[PUTTERS], o.who)
    o.lease = WAITING_LEASE
    return { waits and "wait" or "room" }
  end
  local room, granted = math.min(count, CHUNK), false
  if o.maxsize > 0 then
    granted = redis.call("SISMEMBER", keys[ROOMS], o.who) == 1
    room = math.min(room, free_room(keys, o.maxsize) + (granted and 1 or 0))
    if room <= 0 and o.args[7] == "1" then
      return wait_in(o, PUTTERS)
    end
    redis.call("ZREM", keys[PUTTERS], o.who)
    if room <= 0 then
      return { "full" }
    end
    redis.call("SREM", keys[ROOMS], o.who)
  end
  local last = FIRST_ITEM + room - 1
  redis.call("RPUSH", keys[ITEMS], unpack(o.args, FIRST_ITEM, last))
  note_largest(o, last)
  if o.m.unfinished then
    redis.call("HSET", keys[META], "unfinished", whole(tonumber(o.m.unfinished) + room))
  end
  serve_getters(keys)
  return { "ok", room }, true
end)

-- Up to n items, oldest first, and no more bytes than a call may move.
local function pop_items(o, n)
  local largest = tonumber(o.m.largest) or SMALL
  n = math.min(n, CHUNK, math.max(math.floor(CHUNK_BYTES / largest), 1))
  local items = redis.call("LPOP", o.keys[ITEMS], whole(n)) or {}
  if o.m.largest and #items < n then
    redis.call("HDEL", o.keys[META], "largest") -- there is no item left
  end
  return items
end

-- queue_get: get items, oldest first, or wait in line for one. They are gone from the queue once they are returned.
--
-- KEYS      the object's keys (object): meta, members, log, items, getters, putters, granted, rooms, joiners
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of its call
-- ARGV[4]   lease (ms)
-- ARGV[5]   maxsize: "" for whichever it has, "0" for none
-- ARGV[6]   "1" to count unfinished items from now on
-- ARGV[7]   "1" to wait in line, "0" not to
-- ARGV[8]   how many: at most 500 and 1 MiB come, but at least one where there is one
-- Returns   {"ok", items}, {"wait"}, {"empty"}, {"other", the maxsize that it has}, or {"lost"} where the member's
--           lease has ended

step("queue_get", { "allow-oom" }, plain_queue, function(o)
  local keys, n = o.keys, tonumber(o.args[8])
  local other = open_queue(o)
  if other then
    return other
  end
  local mine = redis.call("HGET", keys[GRANTED], o.who)
  local items = (not mine or n > 1) and pop_items(o, mine and n - 1 or n) or {}
  if mine then
    table.insert(items, 1, mine)
    redis.call("HDEL", keys[GRANTED], o.who)
  end
  if #items > 0 then
    if o.maxsize > 0 then
      serve_putters(keys, o.maxsize)
    end
    return { "ok", items }, true
  elseif o.args[7] == "1" then
    return wait_in(o, GETTERS)
  end
  redis.call("ZREM", keys[GETTERS], o.who)
  return { "empty" }
end)

-- queue_task_done: tell that items that were got are finished. The last one ends the waits for it.
--
-- KEYS      the object's keys (object): meta, members, log, items, getters, putters, granted, rooms, joiners
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of its call
-- ARGV[4]   lease (ms)
-- ARGV[5]   maxsize: "" for whichever it has, "0" for none
-- ARGV[6]   "1" to count unfinished items from now on
-- ARGV[7]   how many
-- Returns   {"ok"}, {"too many"} where fewer are unfinished, {"other", the maxsize that it has}, or {"lost"} where the
--           member's lease has ended

step("queue_task_done", { "allow-oom" }, plain_queue, function(o)
  local other = open_queue(o)
  if other then
    return other
  end
  local left = (tonumber(o.m.unfinished) or 0) - tonumber(o.args[7])
  if left < 0 then
    return { "too many" }
  end
  redis.call("HSET", o.keys[META], "unfinished", whole(left))
  if left == 0 then
    local joiners = redis.call("ZPOPMIN", o.keys[JOINERS], CHUNK) -- the others hear it when they ask again
    for i = 1, #joiners, 2 do
      tell(o.keys, joiners[i], "")
    end
  end
  return { "ok" }, true
end)

-- queue_join: wait until no item is unfinished.
--
-- KEYS      the object's keys (object): meta, members, log, items, getters, putters, granted, rooms, joiners
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of its call
-- ARGV[4]   lease (ms)
-- ARGV[5]   maxsize: "" for whichever it has, "0" for none
-- ARGV[6]   "1" to count unfinished items from now on
-- ARGV[7]   "1" to wait, "0" not to
-- Returns   {"ok"}, {"wait"}, {"unfinished"}, {"other", the maxsize that it has}, or {"lost"} where the member's lease
--           has ended

step("queue_join", { "allow-oom" }, plain_queue, function(o)
  local other = open_queue(o)
  if other then
    return other
  end
  if (tonumber(o.m.unfinished) or 0) > 0 and o.args[7] == "1" then
    return wait_in(o, JOINERS)
  end
  redis.call("ZREM", o.keys[JOINERS], o.who)
  if (tonumber(o.m.unfinished) or 0) > 0 then
    return { "unfinished" }
  end
  return { "ok" }, true
end)

-- Puts what a call got back to the head, where its caller did not hear of it; so a cancelled get loses nothing.
local function put_back(keys, log)
  local reply = cmsgpack.unpack(string.sub(log, 5))
  local items = type(reply[2]) == "table" and reply[2] or {}
  for i = #items, 1, -1 do
    redis.call("LPUSH", keys[ITEMS], items[i])
  end
end

-- queue_leave: end members. What they awaited goes to the next; what they got and did not hear of goes back.
--
-- KEYS      the object's keys (object): meta, members, log, items, getters, putters, granted, rooms, joiners
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   how long (ms) a call that is still on its way is refused
-- ARGV[3..] pairs: member (16 bytes), the number of the call whose answer it did not hear, "0" for none
-- Returns   {"ok"}

register("queue_leave", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "maxsize", "unfinished")
  if not m then
    return problem
  end
  local o = { keys = keys }
  redis.call("ZCARD", keys[MEMBERS]) -- a wrong type fails here, before the first write
  redis.call("LLEN", keys[ITEMS])
  for i = 3, #args, 2 do
    local who, number = args[i], tonumber(args[i + 1])
    local log = redis.call("HGET", keys[LOG], who)
    if number > 0 and last_number(log) == number then
      put_back(keys, log)
    end
    drop_from_queue(o, who)
    if number > 0 then
      redis.call("HSET", keys[LOG], who, struct.pack("<I4", number) .. cmsgpack.pack({ "lost" }))
      redis.call("ZADD", keys[MEMBERS], whole((clock()) + tonumber(args[2])), who)
    else
      redis.call("HDEL", keys[LOG], who)
      redis.call("ZREM", keys[MEMBERS], who)
    end
  end
  serve(keys, tonumber(m[2]) or 0)
  if redis.call("ZCARD", keys[MEMBERS]) == 0 and redis.call("LLEN", keys[ITEMS]) == 0 then
    if m[2] or tonumber(m[3] or "0") > 0 then
      redis.call("PEXPIRE", keys[META], whole(IDLE_QUEUE_TTL))
    else
      redis.call("UNLINK", keys[META])
    end
  end
  keep_alive(keys, args[1])
  return { "ok" }
end)

-- queue_look: how it stands.
--
-- KEYS      the object's keys (object): meta, members, log, items, getters, putters, granted, rooms, joiners
-- Returns   {items that were put and not got, maxsize or 0, rooms that are granted, unfinished items}

register("queue_look", { "no-writes" }, function(keys)
  local m, problem = settings(keys, "maxsize", "unfinished")
  if not m then
    return problem
  end
  return { queue_size(keys), tonumber(m[2]) or 0, redis.call("SCARD", keys[ROOMS]), tonumber(m[3]) or 0 }
end)
