-- release: hand runs back unfinished; they use up nothing.
--
-- Moves     running -> ready, or suspects (what workers have died under), or (ended) (its worker was told to stop it)
-- KEYS      the shard's fixed keys (lib)
-- ARGV      two a task: id, running value
-- Returns   one letter a task: o handed back, c ended as cancelled, l not held any more

register("release", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "retention", "results_max", "buckets")
  if not m then
    return problem
  end
  local runs, attempts = held_runs(keys, args, 1, 2)
  local tokens = redis.call("LLEN", keys[WAKE])
  local w = { held = {}, gone = {}, ending = new_ending(keys, (clock()), m, 2) }
  local back, letters = new_giveback(keys), {}
  for i = #runs, 1, -1 do
    local run = runs[i]
    if not run then
      letters[i] = "l"
    elseif told_to_stop(w.ending, run.id, run.value) then
      letters[i] = "c"
      end_cancelled(w, run.id, run.value)
    else
      local o = running_options(run.value)
      letters[i] = "o"
      w.held[#w.held + 1] = run.id
      leave_started(w.ending, run.id, o)
      add_giveback(back, run.id, o.priority, run.used.crashes)
    end
  end

  if #w.held > 0 then
    redis.call("HDEL", keys[RUNNING], unpack(w.held))
    write_giveback(back, tokens)
    forget(keys, w.gone, attempts)
    write_ending(w.ending)
  end
  return table.concat(letters)
end)
