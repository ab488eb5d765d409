-- mark: a write that nobody reads. WAIT waits for what its connection has written last: a call that is sent again, and finds
-- that all is done, writes nothing, so without a mark behind it WAIT would answer at once.
--
-- KEYS[1]   mark    HASH  gone after a minute
-- Returns   {"ok"}

register("mark", { "allow-oom" }, function(keys)
  redis.call("HSET", keys[1], "", "")
  redis.call("PEXPIRE", keys[1], "60000")
  return { "ok" }
end)
