-- take: get completions from a completion queue. They stay the taker's until its next take confirms them.
--
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   client's incarnation (16 bytes)
-- ARGV[2]   number of the take, used up when it brings completions: the last number again answers the same ones,
--           a lower one nothing
-- ARGV[3]   name of the completion queue
-- ARGV[4]   how many, 0 to 500; 0 only confirms
-- ARGV[5]   lease (ms)
-- ARGV[6]   token of the batch that it got last, which this confirms; "0" where there was none
-- Returns   {"ok", {completion, ...}, token, "0" if no more are left, so that the next one leaves a token, else "1"}, oldest
--           first, at most 1 MiB but at least one, and {"1"} behind it where the queue was full, so that workers wait for
--           room; or {"lost"}: its lease has ended, and what it took last went back, or a copy of an earlier take, which
--           came after that, holds what it has not read

-- Reads the head of the list in small steps, as one completion may be large.
local function read_head(list, n)
  local items, bytes = {}, 0
  while #items < n do
    local page = redis.call("LRANGE", list, #items, math.min(#items + 15, n - 1))
    for _, item in ipairs(page) do
      if bytes + #item > CHUNK_BYTES and #items > 0 then
        return items
      end
      items[#items + 1] = item
      bytes = bytes + #item
    end
    if #page < 16 then
      return items
    end
  end
  return items
end

local function batch_log(number, token, name, items)
  local packed, lengths = {}, {}
  for i = 1, #items do
    local item = items[i]
    local length = lengths[#item]
    if not length then
      length = struct.pack("<I4", #item)
      lengths[#item] = length
    end
    packed[2 * i - 1], packed[2 * i] = length, item
  end
  return struct.pack("<I4c1I8", number, "c", token) .. string.char(#name) .. name .. table.concat(packed)
end

-- Removes the taken items; the next waiter is woken where some are left, and workers where the queue was full.
local function remove_taken(keys, name, list, length, taken, limit, have, tokens)
  local waiters = part(keys, "wake.done:" .. name)
  redis.call("LTRIM", list, taken, "-1")
  if taken < length then
    wake(waiters, have, 1)
  else
    redis.call("SREM", keys[NAMES], name)
    redis.call("DEL", waiters)
  end
  if tokens and length - taken < limit then
    wake(keys[WAKE], tokens, 1)
  end
end

register("take", { "allow-oom" }, function(keys, args)
  local who, number, name, n = args[1], tonumber(args[2]), args[3], tonumber(args[4])
  local m, problem = settings(keys, "completions_max", "token")
  if not m then
    return problem
  end
  local row = redis.call("ZSCORE", keys[WORKERS], who)
  local log = redis.call("HGET", keys[CLAIMS], who)
  if row and tonumber(row) < 0 or number > 1 and not log then -- its row is ending, or is gone with what it held
    return { "lost" }
  end
  local last = last_number(log)
  if number <= last then
    local items = {}
    if number == last then
      items = select(2, unpack_batch(log))
    end
    return { "ok", items, whole(last_token(log)), "1" }
  end
  if last_token(log) > tonumber(args[6]) then -- confirmed unread it would be lost
    return { "lost" }
  end
  local list = part(keys, "done:" .. name)
  local length = redis.call("LLEN", list)
  local have, limit = redis.call("LLEN", part(keys, "wake.done:" .. name)), tonumber(m[2]) or 1000000
  local tokens = length >= limit and redis.call("LLEN", keys[WAKE])
  redis.call("SCARD", keys[NAMES]) -- a wrong type fails here, before the first write
  local items = read_head(list, n)

  local token = last_token(log)
  if #items > 0 then
    local _, us = clock()
    token = next_token(m[3], us)
    redis.call("HSET", keys[META], "token", whole(token))
    remove_taken(keys, name, list, length, #items, limit, have, tokens)
  end
  if #items > 0 or log then
    redis.call("HSET", keys[CLAIMS], who, batch_log(#items > 0 and number or last, token, name, items))
    redis.call("ZADD", keys[WORKERS], whole((clock()) + tonumber(args[5])), who)
  end
  local left = #items < length and "1" or "0"
  if tokens and length - #items < limit then
    return { "ok", items, whole(token), left, { "1" } }
  end
  return { "ok", items, whole(token), left }
end)
