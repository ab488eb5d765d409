-- ending: how tasks end. A call gathers its endings first, which probes every key that only data names,
-- and writes them after its last check; so it is all or nothing also in a slot under migration.

-- The live buckets of results, newest first.
local function live_buckets(list)
  local names = {}
  for name in string.gmatch(list or "", "[^,]+") do
    names[#names + 1] = name
  end
  return names
end

-- The bucket that takes records now. A new one opens when a slice of time or of the bound is full; a
-- bucket expires whole, and the oldest goes when too many live.
local function open_bucket(keys, ms, setting)
  local retention = tonumber(setting.retention) or 3600000
  local bound = tonumber(setting.results_max) or 1000000
  local names = live_buckets(setting.buckets)
  local newest = names[1]
  local bucket = { expire = whole(retention + math.ceil(retention / 8)), drop = {} }
  if newest then
    bucket.key = part(keys, "results:" .. newest)
    local records = redis.call("HLEN", bucket.key)
    if ms < tonumber(newest) + retention / 8 and records < math.max(bound / 8, 1) then
      bucket.fresh = records == 0
      return bucket
    end
  end
  local name = whole(math.max(ms, newest and tonumber(newest) + 1 or 0))
  local kept = { name }
  for i, old in ipairs(names) do
    if i > 8 then
      local key = part(keys, "results:" .. old)
      redis.call("EXISTS", key)
      bucket.drop[#bucket.drop + 1] = key
    elseif tonumber(old) + retention * 9 / 8 > ms then
      kept[#kept + 1] = old
    end
  end
  bucket.key = part(keys, "results:" .. name)
  bucket.fresh = redis.call("EXISTS", bucket.key) == 0
  bucket.names = table.concat(kept, ",")
  return bucket
end

-- Begins the endings of one call; `values` are the settings read by ENDING_SETTINGS, from index `at`.
local function new_ending(keys, ms, values, at)
  local setting = { retention = values[at], results_max = values[at + 1], buckets = values[at + 2] }
  return {
    keys = keys,
    bucket = open_bucket(keys, ms, setting),
    watched = redis.call("SCARD", keys[WATCHERS]) > 0,
    orders = {},
    started = {},
    owners = {},
    places = {},
    order = {},
  }
end

-- A run of a process is over: where it ran is told no longer.
local function leave_started(ending, id, options)
  if is_process(options) then
    redis.call("HLEN", ending.keys[STARTED]) -- a wrong type fails here, before the first write
    ending.started[#ending.started + 1] = id
  end
end

-- Opens the place of completions that go to the queue `name`, or where there is none, whole or not, into the record.
local function open_place(ending, key, name)
  local place = { ids = {}, completions = {}, n = 0, name = name, whole = key == "whole" }
  if name then
    place.list = part(ending.keys, "done:" .. name)
    place.waiters = part(ending.keys, "wake.done:" .. name)
    place.new = redis.call("LLEN", place.list) == 0
    if place.new then
      redis.call("SCARD", ending.keys[NAMES]) -- a wrong type fails here, before the first write
    end
    place.have = redis.call("LLEN", place.waiters)
  end
  ending.places[key] = place
  ending.order[#ending.order + 1] = place
  return place
end

-- Where the completions of tasks with these options go: to the completion queue they name, else into the record.
local function place_of(ending, options)
  local name = options.completions
  if options.owner and not lives(ending.owners, ending.keys, options.owner) then
    name = nil -- nobody is left to read it
  end
  local key = name and "to " .. name or bit.band(options.flags, DISCARD) == 0 and "whole" or "verdict"
  return ending.places[key] or open_place(ending, key, name)
end

-- Adds one task's end: its completion goes where its options say.
local function add_ending(ending, id, options, completion)
  leave_started(ending, id, options)
  local place = place_of(ending, options)
  place.n = place.n + 1
  place.ids[place.n] = id
  place.completions[place.n] = completion
end

-- Ends a task as a dead letter, kept with the reason; answers whether it did. A process just ends.
local function bury(w, id, options, completion)
  add_ending(w.ending, id, options, completion)
  if is_process(options) then
    w.gone[#w.gone + 1] = id
    return false
  end
  w.dead[#w.dead + 1] = time_score(w.ms, options.priority)
  w.dead[#w.dead + 1] = id
  w.errors[#w.errors + 1] = id
  w.errors[#w.errors + 1] = completion
  return true
end

-- Orders a run's worker to stop it; the news makes it quick, the worker's heartbeat makes it sure.
local function order_stop(keys, worker, order)
  local orders = redis.call("HGET", keys[CANCELS], worker) or ""
  if not string.find(orders, order, 1, true) then
    redis.call("HSET", keys[CANCELS], worker, orders .. order)
  end
  redis.call("PUBLISH", part(keys, "stop"), worker)
end

-- Whether a run's worker was told to stop it; reads the orders of a worker once a call.
local function told_to_stop(ending, id, value)
  local worker = string.sub(value, 1, 16)
  local orders = ending.orders[worker]
  if not orders then
    orders = redis.call("HGET", ending.keys[CANCELS], worker) or ""
    ending.orders[worker] = orders
  end
  return string.find(orders, id, 1, true) ~= nil
end

-- Ends a run that was told to stop as cancelled: with the worker's completion, or one of the broker's where there is none.
local function end_cancelled(w, id, value, completion)
  if completion then
    completion = string.sub(completion, 1, 1) .. string.char(CANCELLED) .. string.sub(completion, 3)
  else
    local envelope = redis.call("HGET", w.ending.keys[TASKS], id) or ""
    completion = broker_completion(id, envelope, CANCELLED, "")
  end
  w.held[#w.held + 1] = id
  w.gone[#w.gone + 1] = id
  add_ending(w.ending, id, running_options(value), completion)
end

local function tell_watchers(keys, ids)
  local watched = redis.call("SMISMEMBER", keys[WATCHERS], unpack(ids))
  for i, id in ipairs(ids) do
    if watched[i] == 1 then
      redis.call("SREM", keys[WATCHERS], id)
      redis.call("PUBLISH", part(keys, "ended"), id)
    end
  end
end

-- What the records of these tasks say, as pairs of id and record.
local function records_of(place)
  local records, sub, byte = {}, string.sub, string.byte
  for i = 1, place.n do
    local completion = place.completions[i]
    records[2 * i - 1] = place.ids[i]
    records[2 * i] = place.whole and completion or sub(completion, 1, byte(completion) == 1 and VERDICT or SIGNED_VERDICT)
  end
  return records
end

local function write_place(ending, place)
  redis.call("HSET", ending.bucket.key, unpack(records_of(place)))
  if place.name then
    redis.call("RPUSH", place.list, unpack(place.completions))
    if place.new then
      redis.call("SADD", ending.keys[NAMES], place.name)
    end
    wake(place.waiters, place.have, place.n)
  end
end

-- Writes all endings of the call: records, completion queues, wake tokens, news for watchers.
local function write_ending(ending)
  local keys, bucket = ending.keys, ending.bucket
  if #ending.started > 0 then
    redis.call("HDEL", keys[STARTED], unpack(ending.started))
  end
  if not ending.order[1] then
    return
  end
  for _, place in ipairs(ending.order) do
    write_place(ending, place)
  end
  if bucket.fresh then
    redis.call("PEXPIRE", bucket.key, bucket.expire)
  end
  if bucket.names then
    redis.call("HSET", keys[META], "layout", LAYOUT, "buckets", bucket.names)
  end
  for _, key in ipairs(bucket.drop) do
    redis.call("UNLINK", key)
  end
  for _, place in ipairs(ending.watched and ending.order or {}) do
    tell_watchers(keys, place.ids)
  end
end

-- Removes ended tasks; `attempts` tells whether any task has used some.
local function forget(keys, ids, attempts)
  if #ids > 0 then
    redis.call("HDEL", keys[TASKS], unpack(ids))
    if attempts then
      redis.call("HDEL", keys[ATTEMPTS], unpack(ids))
    end
  end
end

-- The record of an ended task: from the newest `depth` buckets, or from all.
local function find_records(keys, ids, list, depth)
  local found
  for i, name in ipairs(live_buckets(list)) do
    if depth and i > depth then
      break
    end
    local records = redis.call("HMGET", part(keys, "results:" .. name), unpack(ids))
    if found then
      for j = 1, #ids do
        found[j] = found[j] or records[j]
      end
    else
      found = records
    end
  end
  return found or {}
end

-- Writes what the runs of one call came to: none is running any more, each is scheduled again, dead or gone.
local function write_settled(keys, w, attempts)
  if #w.held == 0 then
    return
  end
  redis.call("HDEL", keys[RUNNING], unpack(w.held))
  if #w.used > 0 then
    redis.call("HSET", keys[ATTEMPTS], unpack(w.used))
  end
  if #w.due > 0 then
    redis.call("ZADD", keys[SCHEDULED], unpack(w.due))
  end
  if #w.dead > 0 then
    redis.call("ZADD", keys[DEAD], unpack(w.dead))
    redis.call("HSET", keys[ERRORS], unpack(w.errors))
  end
  forget(keys, w.gone, attempts or #w.used > 0)
  write_ending(w.ending)
end
