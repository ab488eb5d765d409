-- log_append: add what a process printed to its log, and keep the log for the queue's retention. Without pieces it
-- tells where the log ends, and keeps it longer.
--
-- A log is a stream under `log:<id>`. An entry's number is the offset in bytes where its piece ends, so that nothing is
-- added twice and a reader sees how much it missed. A log beyond `log_max` loses its oldest pieces; where all logs of
-- the shard are beyond `logs_max`, whole logs go, the oldest first, and those of ended tasks before the others.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   id
-- ARGV[2]   running value of the run that printed it: only the run that holds the task may write
-- ARGV[3]   offset where the first piece begins
-- ARGV[4..] two a piece, at most 500 pieces and 1 MiB a call: o (standard output), e (standard error) or x (nothing
--           follows, and no bytes); its bytes
-- Returns   {"ok", offset of the log's end, for how long it is kept from now (ms)}, {"full"} while the reader for whom the
--           process waits is half a log behind (see log_read; nothing was added), or {"lost"}

local LOG_MAX, LOGS_MAX = 4194304, 268435456
local OLDEST = 32 -- logs that one call may drop
local PIECE_MIN = 64 -- bytes of a piece, on average, below which it is their number that is bounded

local function log_key(keys, id)
  local hex = string.gsub(id, ".", function(byte) return string.format("%02x", string.byte(byte)) end)
  return part(keys, "log:" .. string.gsub(hex, "^(........)(....)(....)(....)", "%1-%2-%3-%4-"))
end

-- Where a log ends, whether nothing follows, and whether there is a log at all.
local function log_end(key)
  local last = redis.call("XREVRANGE", key, "+", "-", "COUNT", "1")[1]
  if not last then
    return 0, false, false
  end
  local offset, mark = string.match(last[1], "^(%d+)-(%d+)$")
  return tonumber(offset), mark ~= "0", true
end

-- How much the reader for whom the process waits has not read; 0 where there is none, or its lease has ended.
local function unread(keys, id, at)
  local row = redis.call("HGET", keys[LOG_SIZES], "reader:" .. id)
  if not row or not live_row(keys, string.sub(row, 1, 16)) then
    return 0
  end
  return at - tonumber(string.sub(row, 17))
end

-- What of the pieces lies beyond the end of the log: entries, where the log ends with them, and their bytes.
local function beyond(args, at, over)
  local offset, entries, bytes = tonumber(args[3]), {}, 0
  for i = 4, #args, 2 do
    local kind, piece = args[i], args[i + 1]
    offset = offset + #piece
    if kind == "x" and (offset > at or not over) then
      entries[#entries + 1] = { whole(offset) .. "-1", kind, "" }
      at, over = offset, true
    elseif offset > at and piece ~= "" then
      piece = string.sub(piece, at - offset)
      entries[#entries + 1] = { whole(offset) .. "-0", kind, piece }
      bytes = bytes + #piece
      at, over = offset, false
    end
  end
  return entries, at, bytes
end

-- The logs that go: what has expired, also a reader whose process never printed, and, while there are `excess` bytes, the
-- oldest.
local function logs_to_drop(keys, own, ms, excess)
  local rows, drop, gone = redis.call("ZRANGE", keys[LOGS], "0", OLDEST - 1, "WITHSCORES"), {}, {}
  if not rows[1] or tonumber(rows[2]) > ms and excess <= 0 then
    return drop, 0
  end
  local ids, freed = {}, 0
  for i = 1, #rows, 2 do
    ids[#ids + 1] = rows[i]
  end
  local sizes = redis.call("HMGET", keys[LOG_SIZES], unpack(ids))
  local running = redis.call("HMGET", keys[RUNNING], unpack(ids))
  for _, reason in ipairs({ "expired", "ended", "old" }) do
    for i, id in ipairs(ids) do
      local chosen = reason == "expired" and tonumber(rows[2 * i]) <= ms
        or freed < excess and sizes[i] and (reason == "old" or reason == "ended" and not running[i])
      if chosen and id ~= own and not gone[id] then
        gone[id] = true
        drop[#drop + 1] = id
        freed = freed + (tonumber(sizes[i]) or 0)
        redis.call("XLEN", log_key(keys, id))
      end
    end
  end
  return drop, freed
end

local function drop_logs(keys, ids)
  for _, id in ipairs(ids) do
    redis.call("UNLINK", log_key(keys, id))
  end
  if #ids > 0 then
    redis.call("ZREM", keys[LOGS], unpack(ids))
    redis.call("HDEL", keys[LOG_SIZES], unpack(ids))
    for _, id in ipairs(ids) do
      redis.call("HDEL", keys[LOG_SIZES], "reader:" .. id)
    end
  end
end

-- Adds entries and takes the oldest away, in whole nodes of the stream.
local function write_log(key, entries, oldest, longest)
  for _, entry in ipairs(entries) do
    redis.call("XADD", key, unpack(entry))
  end
  redis.call("XTRIM", key, "MINID", "~", whole(oldest))
  redis.call("XTRIM", key, "MAXLEN", "~", whole(longest))
end

-- Keeps the reader of a process that has no log yet for as long as a log.
local function keep_reader(keys, id, ms, kept)
  redis.call("ZADD", keys[LOGS], whole(ms + kept), id)
  for _, expiring in ipairs({ keys[LOGS], keys[LOG_SIZES] }) do
    redis.call("PEXPIRE", expiring, kept)
  end
end

-- For how long a log is kept from now (ms): whoever needs it longer asks again in time, at the latest after 1/5.
local function log_kept(retention)
  return math.floor((tonumber(retention) or 3600000) * 5 / 4)
end

register("log_append", {}, function(keys, args)
  local m, problem = settings(keys, "retention", "log_max", "logs_max")
  if not m then
    return problem
  end
  local id, ms = args[1], clock()
  if redis.call("HGET", keys[RUNNING], id) ~= args[2] then
    return { "lost" }
  end
  local kept = log_kept(m[2])
  local log_max = tonumber(m[3]) or LOG_MAX
  local key = log_key(keys, id)
  local at, over, exists = log_end(key)
  if #args > 3 and unread(keys, id, at) > log_max / 2 then
    return { "full" }
  end
  local entries, bytes
  entries, at, bytes = beyond(args, at, over)
  if not exists and #entries == 0 then
    redis.call("ZCARD", keys[LOGS]) -- a wrong type fails here, before the first write
    if redis.call("HEXISTS", keys[LOG_SIZES], "reader:" .. id) == 1 then
      keep_reader(keys, id, ms, kept)
    end
    return { "ok", 0, kept }
  end
  local sizes = redis.call("HMGET", keys[LOG_SIZES], "all", id)
  local before, own = tonumber(sizes[1]) or 0, tonumber(sizes[2]) or 0
  local size = math.min((exists and own or 0) + bytes, log_max)
  local all = before - own + size
  local drop, freed = logs_to_drop(keys, id, ms, all - (tonumber(m[4]) or LOGS_MAX))

  drop_logs(keys, drop)
  write_log(key, entries, math.max(at - log_max, 0), math.ceil(log_max / PIECE_MIN))
  redis.call("ZADD", keys[LOGS], whole(ms + kept), id)
  redis.call("HSET", keys[LOG_SIZES], id, whole(size), "all", whole(math.max(all - freed, 0)))
  for _, expiring in ipairs({ key, keys[LOGS], keys[LOG_SIZES] }) do
    redis.call("PEXPIRE", expiring, kept)
  end
  return { "ok", at, kept }
end)

-- log_read: say how far a reader has come for whom the process shall wait, as at a full pipe: its log loses nothing that
-- this reader has not read, as long as the reader's lease goes on. It is forgotten with the log; where there never is one,
-- when one would have expired.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   id
-- ARGV[2]   the reader: a client's incarnation (16 bytes)
-- ARGV[3]   offset up to which it has read
-- Returns   {"ok"}

register("log_read", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "retention")
  if not m then
    return problem
  end
  local id, ms, kept = args[1], (clock()), log_kept(m[2])
  local sizes = redis.call("HMGET", keys[LOG_SIZES], "all", id)
  local drop, freed = logs_to_drop(keys, id, ms, 0)

  drop_logs(keys, drop)
  if freed > 0 then
    redis.call("HSET", keys[LOG_SIZES], "all", whole(math.max((tonumber(sizes[1]) or 0) - freed, 0)))
  end
  redis.call("HSET", keys[LOG_SIZES], "reader:" .. id, args[2] .. args[3])
  if sizes[2] then
    redis.call("PEXPIRE", keys[LOG_SIZES], kept)
  else
    keep_reader(keys, id, ms, kept)
  end
  return { "ok" }
end)
