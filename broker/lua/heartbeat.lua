-- heartbeat: renew the lease of a worker or a client, and tell it what to stop.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   incarnation (16 bytes)
-- ARGV[2]   lease (ms)
-- ARGV[3]   "" while it holds something; else the number of its last claim that brought tasks: it holds nothing, and
--           its row may end
-- ARGV[4]   the stop orders of the last answer, exactly as they came, or ""; those whose runs are over are dropped, as a
--           run that is still ending must not begin anew if its worker dies
-- Returns   {"ok", now (ms), stop orders: (id, signal) of 17 bytes each, "1" if a lease has ended, history, number of the
--           last claim that brought tasks, its token}, or {"lost"}. History names what was written to this server before:
--           after a failover or a restart, which may have lost the last writes, it is another; "" for a client

-- The orders whose runs this worker still has.
local function standing(keys, who, orders)
  local ids, left = {}, {}
  for at = 1, #orders, 17 do
    ids[#ids + 1] = string.sub(orders, at, at + 15)
  end
  for i, value in ipairs(redis.call("HMGET", keys[RUNNING], unpack(ids))) do
    if value and string.sub(value, 1, 16) == who then
      left[#left + 1] = string.sub(orders, 17 * i - 16, 17 * i)
    end
  end
  return table.concat(left)
end

-- The replication id: another one after each failover and restart.
local function server_history()
  return string.match(redis.call("INFO", "replication"), "master_replid:(%x+)") or ""
end

register("heartbeat", { "allow-oom" }, function(keys, args)
  local who, lease = args[1], tonumber(args[2])
  local m, problem = settings(keys, "seen")
  if not m then
    return problem
  end
  local ms = clock()
  local row = redis.call("ZSCORE", keys[WORKERS], who)
  if not row or tonumber(row) < 0 then
    return { "lost" }
  end
  local log = redis.call("HGET", keys[CLAIMS], who)
  local kind = log and string.sub(log, 5, 5)
  local orders = redis.call("HGET", keys[CANCELS], who)
  local left = orders and orders ~= "" and orders == args[4] and standing(keys, who, orders)
  local ended = next_lease_end(keys, ms)
  local is_worker = kind ~= "c" and kind ~= "o"
  local history = is_worker and server_history() or ""

  if is_worker then -- a client's lease is not a worker's: its beats would hide an outage
    redis.call("HSET", keys[META], seen(m[2], ms, lease))
  end
  if args[3] == "" then
    redis.call("ZADD", keys[WORKERS], whole(ms + lease), who)
  elseif log and last_number(log) == tonumber(args[3]) then
    redis.call("HSET", keys[CLAIMS], who, string.sub(log, 1, 4) .. "i" .. string.sub(log, 6, 13))
  end
  if left == "" then
    redis.call("HDEL", keys[CANCELS], who)
  elseif left and left ~= orders then
    redis.call("HSET", keys[CANCELS], who, left)
  end
  local number, token = math.max(last_number(log), 0), last_token(log)
  return { "ok", whole(ms), left or orders or "", ended and "1" or "0", history, whole(number), whole(token) }
end)
