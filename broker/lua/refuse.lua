-- refuse: a worker gives back what it can't run (a name, a version or a command that it does not know or
-- allow); another worker may. The wait grows with the time since the first refusal.
--
-- Moves     running -> scheduled, running -> dead (after 5 minutes and 20 refusals; a process ends instead),
--           running -> (ended) (its worker was told to stop it)
-- KEYS      the shard's fixed keys (lib)
-- ARGV[1]   jitter, 0 to 999
-- ARGV[2..] three a task: id, running value, completion for the case that it is buried
-- Returns   one letter a task: r to be offered again, b buried, e ended (a process in place of being buried), c ended as
--           cancelled, l not held any more

local PATIENCE = 300000 -- ms
local REFUSALS = 20 -- as behind a long backlog 5 minutes may pass between two, and others could run it
local FIRST_WAIT, LONGEST_WAIT = 50, 15000 -- ms

local function refuse_one(w, run, completion, jitter)
  if told_to_stop(w.ending, run.id, run.value) then
    end_cancelled(w, run.id, run.value)
    return "c"
  end
  local o, used = running_options(run.value), run.used
  used.refused = used.refused > 0 and used.refused or w.ms
  used.refusals = used.refusals + 1
  local elapsed = w.ms - used.refused
  w.held[#w.held + 1] = run.id
  if elapsed >= PATIENCE and used.refusals >= REFUSALS then
    return bury(w, run.id, o, completion) and "b" or "e"
  end
  leave_started(w.ending, run.id, o)
  local wait = math.min(math.max(FIRST_WAIT, elapsed / 2), LONGEST_WAIT)
  w.due[#w.due + 1] = time_score(w.ms + math.floor(wait * (0.5 + jitter / 1000)), o.priority)
  w.due[#w.due + 1] = run.id
  w.used[#w.used + 1] = run.id
  w.used[#w.used + 1] = pack_attempts(used)
  return "r"
end

register("refuse", { "allow-oom" }, function(keys, args)
  local m, problem = settings(keys, "retention", "results_max", "buckets")
  if not m then
    return problem
  end
  local runs, attempts = held_runs(keys, args, 2, 3)
  local w = { ms = clock(), held = {}, gone = {}, due = {}, used = {}, dead = {}, errors = {} }
  w.ending = new_ending(keys, w.ms, m, 2)
  local letters = {}
  for i, run in ipairs(runs) do
    letters[i] = run and refuse_one(w, run, args[3 * i + 1], tonumber(args[1])) or "l"
  end
  local tokens = redis.call("LLEN", keys[WAKE])
  redis.call("ZCARD", keys[SCHEDULED]) -- wrong types fail here, before the first write
  redis.call("ZCARD", keys[DEAD])
  redis.call("HLEN", keys[ERRORS])

  write_settled(keys, w, attempts)
  if #w.due > 0 then
    wake(keys[WAKE], tokens, 1)
  end
  return table.concat(letters)
end)
