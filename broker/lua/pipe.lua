-- Pipes: one direction each; a duplex pipe is two. Its state is in meta: `capacity` and `bytes` of what is unread, who is
-- in the middle of a message (`writer`, `reader`), and `skip` where the rest of a message comes whose reader is gone. Who
-- holds an end stands in `readers` or `writers`. Who waits stands in the line `reading` or `writing`, and in `asked`:
-- until when it is believed to wait, the bytes that it wants room for, and the number of its wait.
--
-- An item of `messages` begins with a byte: 1 it begins a message, 2 it ends one, 3 it is a whole one. The items of two
-- messages are never mixed. The last ones may be those of a message that is still being written; the first ones, where
-- `reader` is set, the rest of one that is being read.

local MESSAGES, READERS, WRITERS, READING, WRITING, ASKED = 4, 5, 6, 7, 8, 9
local FIRST, LAST = 1, 2

local function has(item, flag)
  return bit.band(string.byte(item, 1), flag) ~= 0
end

local function set(o, field, value)
  value = value or false
  if o.m[field] == value then
    return
  end
  o.m[field] = value
  if value then
    redis.call("HSET", o.keys[META], field, value)
  else
    redis.call("HDEL", o.keys[META], field)
  end
end

local function count(o, change)
  set(o, "bytes", whole(tonumber(o.m.bytes or 0) + change))
end

local function nobody(o, side)
  return redis.call("SCARD", o.keys[side]) == 0
end

local function fits(o, size)
  local bytes = tonumber(o.m.bytes or 0)
  return bytes == 0 or bytes + size <= tonumber(o.m.capacity)
end

local function leave_line(o, line, who)
  if redis.call("HDEL", o.keys[ASKED], who) == 1 then
    redis.call("ZREM", o.keys[line], who)
  end
end

-- Waits in line from now on, or still does. Answers what to say: when the next lease ends.
local function wait(o, line, size, number)
  local asked = struct.pack("<I8I4I4", o.ms + WAITING_LEASE, size, number)
  redis.call("HSET", o.keys[ASKED], o.who, asked)
  if not redis.call("ZSCORE", o.keys[line], o.who) then
    redis.call("ZADD", o.keys[line], next_ticket(o.keys[line], o.us), o.who)
  end
  local ends = next_member_end(o.keys) or o.ms + WAITING_LEASE
  return { "wait", whole(math.max(ends - o.ms, 1)) }
end

-- Who is the first in line, without those who have stopped asking.
local function head(o, line)
  for _ = 1, SWEEP do
    local who = redis.call("ZRANGE", o.keys[line], "0", "0")[1]
    local asked = who and redis.call("HGET", o.keys[ASKED], who)
    if not who or asked and struct.unpack("<I8", asked) > o.ms then
      return who
    end
    redis.call("HDEL", o.keys[ASKED], who)
    redis.call("ZREM", o.keys[line], who)
  end
end

-- Who goes next in a direction, where it waits, and the bytes that it wants room for.
local function next_waiter(o, turn, line)
  local who = turn or head(o, line)
  local asked = who and redis.call("HGET", o.keys[ASKED], who)
  if asked then
    return who, (struct.unpack("<I4", asked, 9))
  end
end

-- Tells who reads next, if there is something to read. At the end it tells the first in line, who tells the next.
local function wake_reader(o)
  local unread = redis.call("EXISTS", o.keys[MESSAGES]) == 1
  local who = (unread or nobody(o, WRITERS)) and next_waiter(o, unread and o.m.reader, READING)
  if who then
    tell(o.keys, who, "")
  end
end

-- Tells who writes next, if there is room for it; where nobody reads any more, likewise.
local function wake_writer(o)
  local over = nobody(o, READERS)
  local who, size = next_waiter(o, not over and o.m.writer, WRITING)
  if who and (over or fits(o, size)) then
    tell(o.keys, who, "")
  end
end

-- Takes back what was written of a message that will not be finished. Who has read of it sees the next one begin.
local function abort_message(o)
  set(o, "writer")
  if o.m.skip then
    return set(o, "skip") -- none of it is there
  end
  local item = redis.call("LINDEX", o.keys[MESSAGES], "-1")
  while item and not has(item, LAST) do
    redis.call("RPOP", o.keys[MESSAGES])
    count(o, -#item)
    item = not has(item, FIRST) and redis.call("LINDEX", o.keys[MESSAGES], "-1")
  end
end

-- Drops the rest of a message that nobody will read to its end, also what is still to come.
local function skip_message(o)
  set(o, "reader")
  local item = redis.call("LINDEX", o.keys[MESSAGES], "0")
  while item and not has(item, FIRST) do
    redis.call("LPOP", o.keys[MESSAGES])
    count(o, -#item)
    if has(item, LAST) then
      return
    end
    item = redis.call("LINDEX", o.keys[MESSAGES], "0")
  end
  if not item and o.m.writer then
    set(o, "skip", "1")
  end
end

-- Ends what a member held and awaited.
local function drop(o, member)
  leave_line(o, READING, member)
  redis.call("ZREM", o.keys[WRITING], member)
  if o.m.writer == member then
    abort_message(o)
  end
  if o.m.reader == member then
    skip_message(o)
  end
  redis.call("SREM", o.keys[WRITERS], member)
  if redis.call("SREM", o.keys[READERS], member) == 1 and nobody(o, READERS) then
    redis.call("UNLINK", o.keys[MESSAGES]) -- nobody will ever read it
    set(o, "bytes")
  end
  wake_reader(o)
  wake_writer(o)
end

local PIPE = { fields = { "capacity", "bytes", "writer", "reader", "skip" }, drop = drop }

-- pipe_open: hold an end of a pipe.
--
-- KEYS      the object's keys (object): meta, members, log, messages, readers, writers, reading, writing, asked
-- ARGV[1]   time to live (ms)
-- ARGV[2]   member (16 bytes), a new one for each end
-- ARGV[3]   lease (ms)
-- ARGV[4]   "r" to read, "w" to write
-- ARGV[5]   "new" for a new pipe; "share" to hold it beside another member; "move" to hold it in its place
-- ARGV[6]   the capacity of a new pipe in bytes; else that other member, which must hold the same end
-- Returns   {"ok"}, or {"gone"} where the other member does not hold it (any more)

register("pipe_open", {}, function(keys, args)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  local who, how, other = args[2], args[5], args[6]
  local side = keys[args[4] == "r" and READERS or WRITERS]
  if redis.call("SISMEMBER", side, who) == 1 then
    return { "ok" }
  elseif how ~= "new" and redis.call("SISMEMBER", side, other) == 0 then
    return { "gone" }
  end
  redis.call("ZCARD", keys[MEMBERS]) -- wrong types fail here, before the first write
  redis.call("HLEN", keys[LOG])
  if how == "new" then
    redis.call("HSET", keys[META], "layout", LAYOUT, "capacity", other)
  elseif how == "move" then
    redis.call("SREM", side, other)
    redis.call("ZREM", keys[MEMBERS], other)
    redis.call("HDEL", keys[LOG], other)
  end
  redis.call("SADD", side, who)
  redis.call("ZADD", keys[MEMBERS], whole((clock()) + tonumber(args[3])), who)
  redis.call("HSET", keys[LOG], who, struct.pack("<I4", 1) .. cmsgpack.pack({ "ok" })) -- this is its call 1
  keep_alive(keys, args[1])
  return { "ok" }
end)

-- pipe_send: write a message, or an item of a long one; or wait in line for room.
--
-- KEYS      the object's keys (object): meta, members, log, messages, readers, writers, reading, writing, asked
-- ARGV[1]   time to live (ms)
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of the call
-- ARGV[4]   lease (ms)
-- ARGV[5]   the item: flags, then bytes
-- Returns   {"ok"}, {"wait", ms until the next lease ends}, {"closed"} where nobody reads any more, or {"lost"}

step("pipe_send", {}, PIPE, function(o)
  local item = o.args[5]
  local first = has(item, FIRST)
  if nobody(o, READERS) then
    leave_line(o, WRITING, o.who)
    if o.m.writer == o.who then
      set(o, "writer")
    end
    wake_writer(o)
    return { "closed" }
  elseif first and o.m.writer == o.who then
    abort_message(o) -- it has given the last one up
  elseif not first and o.m.writer ~= o.who then
    return { "lost" }
  end
  if not o.m.skip or first then
    local turn = o.m.writer or head(o, WRITING) or o.who
    if turn ~= o.who or not fits(o, #item) then
      return wait(o, WRITING, #item, 0)
    end
    redis.call("RPUSH", o.keys[MESSAGES], item)
    count(o, #item)
  end
  leave_line(o, WRITING, o.who)
  if has(item, LAST) then
    set(o, "writer")
    set(o, "skip")
    wake_writer(o)
  else
    set(o, "writer", o.who)
  end
  wake_reader(o)
  return { "ok" }, true
end)

-- pipe_abort: take back what was written of a message that will not be finished, and the place in line.
--
-- KEYS      the object's keys (object): meta, members, log, messages, readers, writers, reading, writing, asked
-- ARGV[1]   time to live (ms)
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of the call, higher than that of the write that is given up
-- ARGV[4]   lease (ms)
-- Returns   {"ok"}, or {"lost"}

step("pipe_abort", { "allow-oom" }, PIPE, function(o)
  leave_line(o, WRITING, o.who)
  if o.m.writer == o.who then
    abort_message(o)
  end
  wake_writer(o)
  return { "ok" }, true
end)

-- pipe_recv: read a message, or an item of a long one; or see whether there is one; or wait in line for it.
--
-- KEYS      the object's keys (object): meta, members, log, messages, readers, writers, reading, writing, asked
-- ARGV[1]   time to live (ms)
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of the call
-- ARGV[4]   lease (ms)
-- ARGV[5]   "recv" to read, "poll" to wait until that would not wait, "peek" to see whether it would
-- ARGV[6]   number of the wait
-- Returns   {"ok", item}, {"ready"} to a poll or peek, {"wait", ms until the next lease ends}, {"no"} to a peek,
--           {"eof"} where all is read and nobody writes any more, or {"lost"}

step("pipe_recv", { "allow-oom" }, PIPE, function(o)
  local mode = o.args[5]
  local turn = o.m.reader or mode == "recv" and head(o, READING) or o.who
  if turn == o.who then
    local item = mode == "recv" and redis.call("LPOP", o.keys[MESSAGES])
    if item then
      leave_line(o, READING, o.who)
      count(o, -#item)
      set(o, "reader", not has(item, LAST) and o.who)
      wake_writer(o)
      wake_reader(o)
      return { "ok", item }, true
    end
  end
  local unread = redis.call("EXISTS", o.keys[MESSAGES]) == 1
  if not unread and nobody(o, WRITERS) then
    leave_line(o, READING, o.who)
    if o.m.reader == o.who then
      set(o, "reader")
    end
    wake_reader(o)
    return { mode == "recv" and "eof" or "ready" }
  elseif mode ~= "recv" and unread and turn == o.who then
    leave_line(o, READING, o.who)
    wake_reader(o)
    return { "ready" }
  elseif mode == "peek" then
    return { "no" }
  end
  return wait(o, READING, 0, tonumber(o.args[6]))
end)

-- pipe_leave: give up the place in the line of readers.
--
-- KEYS      the object's keys (object): meta, members, log, messages, readers, writers, reading, writing, asked
-- ARGV[1]   time to live (ms)
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of the wait; a later one of the same member goes on
-- Returns   {"ok"}

register("pipe_leave", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "reader")
  if not m then
    return problem
  end
  local asked = redis.call("HGET", keys[ASKED], args[2])
  if asked and struct.unpack("<I4", asked, 13) == tonumber(args[3]) then
    local o = { keys = keys, m = { reader = m[2] }, ms = (clock()) }
    leave_line(o, READING, args[2])
    wake_reader(o)
    keep_alive(keys, args[1])
  end
  return { "ok" }
end)

-- pipe_close: hold an end no more. A pipe goes with the last who holds one of its ends.
--
-- KEYS      the object's keys (object): meta, members, log, messages, readers, writers, reading, writing, asked
-- ARGV[1]   time to live (ms)
-- ARGV[2]   member (16 bytes)
-- ARGV[3]   number of the call, the highest that there is
-- ARGV[4]   lease (ms)
-- Returns   {"ok"}, or {"lost"}

step("pipe_close", { "allow-oom" }, PIPE, function(o)
  drop(o, o.who)
  if nobody(o, READERS) and nobody(o, WRITERS) then
    redis.call("UNLINK", unpack(o.keys))
  end
  o.leave = true
  return { "ok" }, true
end)
