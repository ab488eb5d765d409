-- mark: a write that nobody reads. By its contract WAIT waits for what its own connection has written: a call that is sent
-- again, and finds that all is done, writes nothing, so that without a mark behind it WAIT might answer at once.
--
-- KEYS[1]   mark    HASH  gone after a minute
-- Returns   {"ok"}

register("mark", { "allow-oom" }, function(keys)
  redis.call("HSET", keys[1], "", "")
  redis.call("PEXPIRE", keys[1], "60000")
  return { "ok" }
end)
