-- cancel: end tasks that wait, and order the workers of running ones to stop them.
--
-- Moves     ready -> (ended), scheduled -> (ended); running: the worker's heartbeat reads the order
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   signal for running ones (a byte's value): 15 terminate, 9 kill, 2 interrupt
-- ARGV[2..] ids, at most 100
-- Returns   one letter a task: c cancelled, r running and told to stop, d a dead letter, e ended before, u unknown;
--           m after 1 MiB of envelopes: ask again for this one and all after it

-- Ends a waiting task; one that stands on a ready list leaves a hole there, as finding it would be slow.
local function end_waiting(w, id, envelope, is_due)
  local o = envelope_options(envelope)
  o.completions = o.completions or not is_process(o) and w.completions or nil
  add_ending(w.ending, id, o, broker_completion(id, envelope, CANCELLED, ""))
  w.gone[#w.gone + 1] = id
  w.known[id] = true
  w.bytes = w.bytes + #envelope
  local kind = is_due and w.due or w.holes
  kind[#kind + 1] = id
end

-- Where the tasks of a call are; the envelopes are read one by one, as they may be large.
local function locate(keys, ids, buckets)
  return {
    running = redis.call("HMGET", keys[RUNNING], unpack(ids)),
    dead = redis.call("ZMSCORE", keys[DEAD], unpack(ids)),
    due = redis.call("ZMSCORE", keys[SCHEDULED], unpack(ids)),
    records = find_records(keys, ids, buckets),
  }
end

-- Sorts one task into the writes; answers its letter.
local function sort_one(keys, w, places, i, id)
  if w.known[id] then
    return "e"
  elseif places.running[i] then
    w.orders[#w.orders + 1] = { value = places.running[i], id = id }
    return "r"
  elseif places.dead[i] then
    return "d"
  end
  local envelope = redis.call("HGET", keys[TASKS], id)
  if envelope then
    end_waiting(w, id, envelope, places.due[i])
    return "c"
  end
  return places.records[i] and "e" or "u"
end

local function write(keys, w, signal, attempts)
  for _, run in ipairs(w.orders) do
    order_stop(keys, string.sub(run.value, 1, 16), run.id .. signal)
  end
  if #w.due > 0 then
    redis.call("ZREM", keys[SCHEDULED], unpack(w.due))
  end
  if #w.holes > 0 then
    redis.call("SADD", keys[HOLES], unpack(w.holes))
  end
  forget(keys, w.gone, attempts)
  write_ending(w.ending)
end

register("cancel", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "retention", "results_max", "buckets", "completions", "maxsize")
  if not m then
    return problem
  end
  local ids = { unpack(args, 2) }
  local places = locate(keys, ids, m[4])
  local attempts = redis.call("HLEN", keys[ATTEMPTS]) > 0
  local room = room_tokens(keys, m[6])
  redis.call("HLEN", keys[CANCELS]) -- wrong types fail here, before the first write
  redis.call("SCARD", keys[HOLES])
  local w = { known = {}, gone = {}, due = {}, holes = {}, orders = {}, bytes = 0, completions = m[5] }
  w.ending = new_ending(keys, (clock()), m, 2)
  local letters = {}
  for i, id in ipairs(ids) do
    letters[i] = w.bytes < CHUNK_BYTES and sort_one(keys, w, places, i, id) or "m"
  end

  write(keys, w, string.char(args[1]), attempts)
  if #w.gone > 0 then
    tell_room(keys, room)
  end
  return table.concat(letters)
end)
