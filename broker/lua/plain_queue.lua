-- Plain queues, those of multiprocessing. Items stand in one list, oldest first, in frames (frame). `size` in meta counts
-- the items of the list. Who finds it empty waits in the line `getters`, who finds it full in the line `putters`, and each
-- step serves both lines: the first getter is granted an item, which it collects by asking again, the first putter is
-- granted room for one. So items are free only while no getter waits, room only while no putter does, and who comes later
-- never overtakes. What a member was granted whose lease ends goes to the next.

local ITEMS, GETTERS, PUTTERS, GRANTED, ROOMS, JOINERS, GOT = 4, 5, 6, 7, 8, 9, 10
local FIRST_ITEM = 8 -- argument of queue_put
local SMALL = 2048 -- bytes: as many frames as a call may move of this size are within its bytes

-- What a get answered is in `got`, so that it can be answered again; in the log it would be copied three times.
local RUN = "" -- stands for it in the log

local function recall_got(keys, member, logged)
  if logged[2] == RUN then
    logged[2] = redis.call("HGET", keys[GOT], member)
  end
  return logged
end

-- How many items the list holds; a step writes it at its end.
local function listed(o)
  return tonumber(o.m.size) or 0
end

local function add_to_size(o, items)
  o.m.size = math.max(listed(o) + items, 0)
  o.resized = true
end

local function write_size(o)
  if o.resized then
    redis.call("HSET", o.keys[META], "size", whole(o.m.size))
  end
end

-- Items that were put and not got.
local function queue_size(o)
  return listed(o) + redis.call("HLEN", o.keys[GRANTED])
end

-- Puts frames to the head, in their order.
local function push_back(o, frames)
  for i = #frames, 1, -1 do
    redis.call("LPUSH", o.keys[ITEMS], frames[i])
    add_to_size(o, frame_count(frames[i]))
  end
end

-- Takes up to n items from the head, no more bytes than a call may move, but at least one item where there is one.
-- Answers their frames.
local function pop_items(o, n)
  local list, largest = o.keys[ITEMS], tonumber(o.m.largest) or SMALL
  n = math.min(n, CHUNK)
  if redis.call("LLEN", list) == listed(o) then -- one by one in the list, so that many come at once
    n = math.min(n, math.max(math.floor(CHUNK_BYTES / largest), 1))
    local frames = redis.call("LPOP", list, whole(n)) or {}
    add_to_size(o, -#frames)
    return frames
  end
  local frames, got, bytes = {}, 0, 0
  while got < n do
    local frame = redis.call("LPOP", list)
    if not frame then
      break
    elseif got > 0 and bytes + #frame > CHUNK_BYTES then
      redis.call("LPUSH", list, frame)
      break
    end
    local head, tail, count = cut(frame, n - got)
    if tail then
      redis.call("LPUSH", list, tail)
    end
    frames[#frames + 1] = head
    got, bytes = got + count, bytes + #head
  end
  add_to_size(o, -got)
  return frames
end

-- Grants the first getters an item each. What a call brings is popped and cut once, however many wait.
local function serve_getters(o)
  local waiting = redis.call("ZCARD", o.keys[GETTERS])
  while waiting > 0 and listed(o) > 0 do
    local items = singles(pop_items(o, waiting))
    if #items == 0 then
      break
    end
    local served = redis.call("ZPOPMIN", o.keys[GETTERS], whole(#items)) -- each member is followed by its score
    local rows, members = {}, {}
    for i, item in ipairs(items) do
      members[i] = served[2 * i - 1]
      rows[2 * i - 1], rows[2 * i] = members[i], item
    end
    redis.call("HSET", o.keys[GRANTED], unpack(rows))
    tell_all(o.keys, members, "")
    waiting = waiting - #items
  end
end

local function free_room(o)
  return o.maxsize - queue_size(o) - redis.call("SCARD", o.keys[ROOMS])
end

local function serve_putters(o)
  local waiting = o.maxsize > 0 and redis.call("ZCARD", o.keys[PUTTERS]) or 0
  for _ = 1, waiting > 0 and math.min(waiting, free_room(o)) or 0 do
    local member = redis.call("ZPOPMIN", o.keys[PUTTERS])[1]
    redis.call("SADD", o.keys[ROOMS], member)
    tell(o.keys, member, "room")
  end
end

local function serve(o)
  serve_getters(o)
  serve_putters(o)
end

-- Takes back what a member awaits or was granted.
local function drop_from_queue(o, member)
  for _, line in ipairs({ GETTERS, PUTTERS, JOINERS }) do
    redis.call("ZREM", o.keys[line], member)
  end
  redis.call("SREM", o.keys[ROOMS], member)
  local item = redis.call("HGET", o.keys[GRANTED], member)
  if item then
    push_back(o, { item })
    redis.call("HDEL", o.keys[GRANTED], member)
  end
  redis.call("HDEL", o.keys[GOT], member)
  o.dropped = true
end

-- An empty queue whose items are all finished says nothing that would be missed; who opens it names its bound again.
local function is_idle_queue(o)
  return listed(o) == 0 and (tonumber(o.m.unfinished) or 0) == 0 and redis.call("HLEN", o.keys[GRANTED]) == 0
end

local plain_queue = {
  fields = { "maxsize", "size", "unfinished", "largest" },
  drop = drop_from_queue,
  recall = recall_got,
  is_idle = is_idle_queue,
}

-- An idle queue expires, and one in use stays, also where its meta is about to be made.
local function keep_while_in_use(o)
  if is_idle_queue(o) then
    redis.call("PEXPIRE", o.keys[META], whole(IDLE_TTL))
  else
    redis.call("PERSIST", o.keys[META])
  end
end

local function set_unfinished(o, n)
  o.m.unfinished = n
  redis.call("HSET", o.keys[META], "unfinished", whole(n))
end

-- Takes the bound that the caller names, where the queue has none or is not in use; answers the refusal otherwise.
local function adopt_maxsize(o, asked)
  local m, keys = o.m, o.keys
  if asked == "" or asked == m.maxsize then
    return nil
  end
  local size = queue_size(o)
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
  redis.call("LLEN", keys[ITEMS]) -- a wrong type fails here, before the first write
  local other = adopt_maxsize(o, o.args[5])
  if not other and o.args[6] == "1" and not o.m.unfinished then
    set_unfinished(o, queue_size(o))
  end
  if o.args[3] == "1" then
    redis.call("PERSIST", keys[META]) -- nobody may have used it meanwhile (queue_leave)
  end
  o.maxsize = tonumber(o.m.maxsize) or 0
  if o.dropped then
    serve(o)
  end
  return other
end

-- Registers a step that begins so, and writes the size at its end.
local function queue_step(verb, flags, body)
  step(verb, flags, plain_queue, function(o)
    local was_idle = is_idle_queue(o)
    local reply, done, logged = open_queue(o), false, nil
    if not reply then
      reply, done, logged = body(o)
    end
    write_size(o) -- also where it is refused: what dead members were granted is back in the list
    if was_idle ~= is_idle_queue(o) then
      keep_while_in_use(o)
    end
    return reply, done, logged
  end)
end

-- A place in a line; it is kept from one asking to the next, under a short lease.
local function wait_in(o, line)
  if not redis.call("ZSCORE", o.keys[line], o.who) then
    redis.call("ZADD", o.keys[line], next_ticket(o.keys[line], o.us), o.who)
  end
  o.lease = WAITING_LEASE
  return { "wait" }
end

-- A putter whose room went to what a cancelled get put back waits for other room, before everybody else. If it kept its
-- grant meanwhile, the room that it waits for would be its own.
local function stand_first(o)
  local line = o.keys[PUTTERS]
  local first = redis.call("ZRANGE", line, "0", "0", "WITHSCORES")[2]
  redis.call("SREM", o.keys[ROOMS], o.who)
  redis.call("ZADD", line, whole((tonumber(first) or o.us) - 1), o.who)
end

local function note_largest(o, frames)
  local before = tonumber(o.m.largest) or SMALL
  local largest = before
  for _, frame in ipairs(frames) do
    largest = math.max(largest, #frame)
  end
  if largest > before then
    redis.call("HSET", o.keys[META], "largest", whole(largest))
  end
end

-- The frames that a call brings, cut behind `room` items; answers how many items these are.
local function take_frames(args, room)
  local frames, taken = {}, 0
  for i = FIRST_ITEM, #args do
    local head, _, count = cut(args[i], room - taken)
    if taken == room or count == 0 then
      break
    end
    frames[#frames + 1] = head
    taken = taken + count
  end
  return frames, taken
end

-- queue_put: put items, as many as there is room for, or wait in line for room for one.
--
-- KEYS      the object's keys (object): meta, members, log, items, getters, putters, granted, rooms, joiners,
--           got
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of its call
-- ARGV[4]   lease (ms)
-- ARGV[5]   maxsize: "" for whichever it has, "0" for none
-- ARGV[6]   "1" to count unfinished items from now on
-- ARGV[7]   "1" to wait in line, "0" not to
-- ARGV[8..] frames of items, at most 500 items and 1 MiB, but at least one item; none only asks what became of the place
--           in the line, or gives it up, where it does not wait
-- Returns   {"ok", how many were put}, {"wait"}, {"room"} where it is its turn to send the items, {"full"},
--           {"other", the maxsize that it has}, or {"lost"} where the member's lease has ended

queue_step("queue_put", {}, function(o)
  local keys, room, granted = o.keys, CHUNK, false
  if #o.args < FIRST_ITEM and o.args[7] == "0" then
    return { redis.call("ZREM", keys[PUTTERS], o.who) == 1 and "full" or "room" }
  elseif #o.args < FIRST_ITEM then
    o.lease = WAITING_LEASE
    return { redis.call("ZSCORE", keys[PUTTERS], o.who) and "wait" or "room" }
  elseif o.maxsize > 0 then
    granted = redis.call("SISMEMBER", keys[ROOMS], o.who) == 1
    room = math.min(room, free_room(o) + (granted and 1 or 0))
    if room <= 0 and o.args[7] == "1" then
      if granted then
        stand_first(o)
      end
      return wait_in(o, PUTTERS)
    end
  end
  local frames, taken = take_frames(o.args, math.max(room, 0))
  if o.maxsize > 0 then
    redis.call("ZREM", keys[PUTTERS], o.who)
    redis.call("SREM", keys[ROOMS], o.who)
    if taken == 0 then
      return { "full" }
    end
  end
  redis.call("RPUSH", keys[ITEMS], unpack(frames))
  add_to_size(o, taken)
  note_largest(o, frames)
  if o.m.unfinished then
    set_unfinished(o, tonumber(o.m.unfinished) + taken)
  end
  serve_getters(o)
  return { "ok", taken }, true
end)

-- queue_get: get items, oldest first, or wait in line for one. They are gone from the queue once they are returned.
--
-- KEYS      the object's keys (object): meta, members, log, items, getters, putters, granted, rooms, joiners,
--           got
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of its call
-- ARGV[4]   lease (ms)
-- ARGV[5]   maxsize: "" for whichever it has, "0" for none
-- ARGV[6]   "1" to count unfinished items from now on
-- ARGV[7]   "1" to wait in line, "0" not to
-- ARGV[8]   how many: at most 500 and 1 MiB come, but at least one where there is one
-- Returns   {"ok", frames, as one string}, {"wait"}, {"empty"}, {"other", the maxsize that it has}, or {"lost"} where the member's
--           lease has ended

queue_step("queue_get", { "allow-oom" }, function(o)
  local keys, n = o.keys, tonumber(o.args[8])
  local mine = redis.call("HGET", keys[GRANTED], o.who)
  local wanted = mine and n - 1 or n
  local frames = wanted > 0 and listed(o) > 0 and pop_items(o, wanted) or {}
  if mine then
    table.insert(frames, 1, mine)
    redis.call("HDEL", keys[GRANTED], o.who)
  end
  if o.m.largest and listed(o) == 0 then
    redis.call("HDEL", keys[META], "largest")
  end
  if #frames > 0 then
    serve_putters(o)
    local run = #frames == 1 and frames[1] or table.concat(frames)
    redis.call("HSET", keys[GOT], o.who, run)
    return { "ok", run }, true, { "ok", RUN }
  elseif o.args[7] == "1" then
    return wait_in(o, GETTERS)
  end
  redis.call("ZREM", keys[GETTERS], o.who)
  return { "empty" }
end)

-- Writes the answer of the call that a joiner waits in: when it asks, there may be unfinished items again.
local function answer_join(o, joiner)
  local log = redis.call("HGET", o.keys[LOG], joiner)
  redis.call("HSET", o.keys[LOG], joiner, struct.pack("<I4", last_number(log) + 1) .. cmsgpack.pack({ "ok" }))
  tell(o.keys, joiner, "")
end

-- queue_task_done: tell that items that were got are finished. The last one ends the waits for it.
--
-- KEYS      the object's keys (object): meta, members, log, items, getters, putters, granted, rooms, joiners,
--           got
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of its call
-- ARGV[4]   lease (ms)
-- ARGV[5]   maxsize: "" for whichever it has, "0" for none
-- ARGV[6]   "1" to count unfinished items from now on
-- ARGV[7]   how many
-- Returns   {"ok"}, {"too many"} where fewer are unfinished, {"other", the maxsize that it has}, or {"lost"} where the
--           member's lease has ended

queue_step("queue_task_done", { "allow-oom" }, function(o)
  local left = (tonumber(o.m.unfinished) or 0) - tonumber(o.args[7])
  if left < 0 then
    return { "too many" }
  end
  set_unfinished(o, left)
  if left == 0 then
    local joiners = redis.call("ZPOPMIN", o.keys[JOINERS], CHUNK) -- the others hear it when they ask again
    for i = 1, #joiners, 2 do
      answer_join(o, joiners[i])
    end
  end
  return { "ok" }, true
end)

-- queue_join: wait until no item is unfinished.
--
-- KEYS      the object's keys (object): meta, members, log, items, getters, putters, granted, rooms, joiners,
--           got
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of its call
-- ARGV[4]   lease (ms)
-- ARGV[5]   maxsize: "" for whichever it has, "0" for none
-- ARGV[6]   "1" to count unfinished items from now on
-- ARGV[7]   "1" to wait, "0" not to
-- Returns   {"ok"}, {"wait"}, {"unfinished"}, {"other", the maxsize that it has}, or {"lost"} where the member's lease
--           has ended

queue_step("queue_join", { "allow-oom" }, function(o)
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
local function put_back(o, who, log)
  local logged = cmsgpack.unpack(string.sub(log, 5))
  if logged[2] == RUN then
    push_back(o, frames_of(redis.call("HGET", o.keys[GOT], who)))
  end
end

-- queue_leave: end members. What they awaited goes to the next; what they got and did not hear of goes back.
--
-- KEYS      the object's keys (object): meta, members, log, items, getters, putters, granted, rooms, joiners,
--           got
-- ARGV[1]   time to live of an anonymous object (ms), or ""
-- ARGV[2]   how long (ms) a call that is still on its way is refused
-- ARGV[3..] pairs: member (16 bytes), the number of the call whose answer it did not hear, "0" for none
-- Returns   {"ok"}

register("queue_leave", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "maxsize", "unfinished", "size")
  if not m then
    return problem
  end
  local o = { keys = keys, m = { size = m[4], unfinished = m[3] }, maxsize = tonumber(m[2]) or 0 }
  redis.call("ZCARD", keys[MEMBERS]) -- a wrong type fails here, before the first write
  redis.call("LLEN", keys[ITEMS])
  for i = 3, #args, 2 do
    local who, number = args[i], tonumber(args[i + 1])
    local log = redis.call("HGET", keys[LOG], who)
    if number > 0 and last_number(log) == number then
      put_back(o, who, log)
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
  serve(o)
  write_size(o)
  if redis.call("ZCARD", keys[MEMBERS]) > 0 or redis.call("LLEN", keys[ITEMS]) > 0 then
    keep_while_in_use(o)
  elseif m[2] or tonumber(m[3] or "0") > 0 then
    redis.call("PEXPIRE", keys[META], whole(IDLE_TTL)) -- its bound is kept for a while
  else
    redis.call("UNLINK", keys[META])
  end
  keep_alive(keys, args[1])
  return { "ok" }
end)

-- queue_look: how it stands.
--
-- KEYS      the object's keys (object): meta, members, log, items, getters, putters, granted, rooms, joiners,
--           got
-- Returns   {items that were put and not got, maxsize or 0, rooms that are granted, unfinished items}

register("queue_look", { "no-writes" }, function(keys)
  local m, problem = settings(keys, "maxsize", "unfinished", "size")
  if not m then
    return problem
  end
  local size = queue_size({ keys = keys, m = { size = m[4] } })
  return { size, tonumber(m[2]) or 0, redis.call("SCARD", keys[ROOMS]), tonumber(m[3]) or 0 }
end)
