-- numbered: how submit knows the first copy of a bulk call, whose ids are new without a look at any. A producer numbers its
-- calls; its row in the newest bucket of results holds an epoch and the highest number that was taken in. A call of this
-- epoch with a higher number was not taken in before. A copy, an overtaken call and one whose row is gone go the general
-- way. A row that begins anew has another epoch, so no copy of an older call fits it; it expires with its bucket.

local STAMP = 24 -- bytes: producer (8), epoch (8), number (u64, big endian)

-- What the newest bucket holds of a call's producer: its epoch, whether the call is certainly the first of its bytes,
-- and the row to write with the call's tasks, if any.
local function find_producer(keys, stamp, buckets)
  local newest = #stamp == STAMP and string.match(buckets or "", "^%d+")
  if not newest then
    return { first = false }
  end
  local id, bucket = string.sub(stamp, 1, 8), part(keys, "results:" .. newest)
  local row = redis.call("HGET", bucket, id)
  local producer = { bucket = bucket, id = id, first = false }
  if row then
    producer.epoch = string.sub(row, 1, 8)
    producer.first = producer.epoch == string.sub(stamp, 9, 16)
      and struct.unpack(">I8", stamp, 17) > struct.unpack(">I8", row, 9)
    producer.row = producer.first and string.sub(stamp, 9)
  elseif redis.call("EXISTS", bucket) == 1 then -- a bucket that is gone would come back without a time to live
    local _, us = clock()
    producer.epoch = struct.pack(">I8", us)
    producer.row = producer.epoch .. string.rep("\0", 8)
  end
  return producer
end

local function write_producer(producer)
  if producer.row then
    redis.call("HSET", producer.bucket, producer.id, producer.row)
  end
end
