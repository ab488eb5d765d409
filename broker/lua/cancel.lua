-- cancel: end tasks that wait, and order the workers of running ones to stop them.
--
-- Moves     ready -> (ended), scheduled -> (ended); running: the worker's heartbeat reads the order
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   signal for running ones (a byte's value): 15 terminate, 9 kill, 2 interrupt
-- ARGV[2..] ids, at most 100
-- Returns   one letter a task: c cancelled, r running and told to stop, d a dead letter, e ended before, u unknown

local function order_stop(keys, value, order)
  local worker = string.sub(value, 1, 16)
  local orders = redis.call("HGET", keys[CANCELS], worker) or ""
  if not string.find(orders, order, 1, true) then
    redis.call("HSET", keys[CANCELS], worker, orders .. order)
  end
  redis.call("PUBLISH", part(keys, "stop"), worker)
end

-- Ends a waiting task; one that stands on a ready list leaves a hole there, as finding it would be slow.
local function end_waiting(w, ending, id, envelope, completions)
  local o = envelope_options(envelope)
  o.completions = o.completions or completions
  add_ending(ending, id, o, broker_completion(id, envelope, CANCELLED, ""))
  w.gone[#w.gone + 1] = id
end

register("cancel", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "retention", "results_max", "buckets", "completions")
  if not m then
    return problem
  end
  local ids = { unpack(args, 2) }
  local envelopes = redis.call("HMGET", keys[TASKS], unpack(ids))
  local running = redis.call("HMGET", keys[RUNNING], unpack(ids))
  local dead = redis.call("ZMSCORE", keys[DEAD], unpack(ids))
  local due = redis.call("ZMSCORE", keys[SCHEDULED], unpack(ids))
  local records = find_records(keys, ids, m[4])
  local attempts = redis.call("HLEN", keys[ATTEMPTS]) > 0
  redis.call("HLEN", keys[CANCELS]) -- wrong types fail here, before the first write
  redis.call("SCARD", keys[HOLES])
  local ending, letters = new_ending(keys, (clock()), m, 2), {}
  local w = { gone = {}, due = {}, holes = {}, orders = {} }
  local settled = {}
  for i, id in ipairs(ids) do
    if settled[id] then
      letters[i] = "e"
    elseif running[i] then
      letters[i] = "r"
      w.orders[#w.orders + 1] = i
    elseif dead[i] then
      letters[i] = "d"
    elseif envelopes[i] then
      letters[i] = "c"
      settled[id] = true
      end_waiting(w, ending, id, envelopes[i], m[5])
      local kind = due[i] and w.due or w.holes
      kind[#kind + 1] = id
    else
      letters[i] = records[i] and "e" or "u"
    end
  end

  for _, i in ipairs(w.orders) do
    order_stop(keys, running[i], ids[i] .. string.char(args[1]))
  end
  if #w.due > 0 then
    redis.call("ZREM", keys[SCHEDULED], unpack(w.due))
  end
  if #w.holes > 0 then
    redis.call("SADD", keys[HOLES], unpack(w.holes))
  end
  forget(keys, w.gone, attempts)
  write_ending(ending)
  return table.concat(letters)
end)
