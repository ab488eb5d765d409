-- release: hand runs back unfinished; they use up nothing.
--
-- Moves     running -> ready, or suspects (what workers have died under)
-- KEYS      the shard's fixed keys (lib)
-- ARGV      two a task: id, running value
-- Returns   one letter a task: o handed back, l not held any more

register("release", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys)
  if not m then
    return problem
  end
  local ids = {}
  for i = 1, #args, 2 do
    ids[#ids + 1] = args[i]
  end
  local held = redis.call("HMGET", keys[RUNNING], unpack(ids))
  local rows = redis.call("HLEN", keys[ATTEMPTS]) > 0 and redis.call("HMGET", keys[ATTEMPTS], unpack(ids)) or {}
  local tokens = redis.call("LLEN", keys[WAKE])
  local back, gone, letters, settled = new_giveback(keys), {}, {}, {}
  for i = #ids, 1, -1 do
    letters[i] = "l"
    if held[i] and held[i] == args[2 * i] and not settled[ids[i]] then
      settled[ids[i]] = true
      letters[i] = "o"
      gone[#gone + 1] = ids[i]
      add_giveback(back, ids[i], running_options(held[i]).priority, parse_attempts(rows[i]).crashes)
    end
  end

  if #gone > 0 then
    redis.call("HDEL", keys[RUNNING], unpack(gone))
    write_giveback(back, tokens)
  end
  return table.concat(letters)
end)
