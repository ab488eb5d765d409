-- shapes: what the arguments of each function have to be, checked before anything else, as Lua has no rollback. A letter
-- an argument: m an id or a member (16 bytes), h a lone holder (24 bytes), i a number of a call (32 bits), n another whole
-- number, z one that may be negative, t a time to live (ms) or "", o a whole number or "", y a bound and x the step of a
-- slice, f a frame of items, s anything. Behind `|` stand those that come again and again. Arguments beyond are the
-- function's own affair.

local SHAPES = {
  submit = "nsn", finish = "n", release = "|ms", refuse = "n|mss", cancel = "n|m", reclaim = "n", start = "mss",
  claim = "minns", heartbeat = "mns", take = "misnnn", join = "mns", leave = "mn", watch = "|m", find = "m",
  open = "s", wake = "nn", mark = "", requeue = "o", purge_dead = "o", configure = "", purge = "n",
  inspect = "", list_dead = "nn", list_started = "sn",
  log_append = "msn|ss", log_read = "mmn", present = "mns", fleet = "",
  renew = "tn|m", attach = "tmn", detach = "tm|m", unlink = "", refs = "s",
  sem_acquire = "tmnn", sem_release = "tmss", sem_post = "tmn", sem_look = "",
  sem_acquire_lone = "h", sem_release_lone = "m",
  cond_wait = "tmms", cond_leave = "tms", cond_notify = "tmmsn",
  event_set = "tmin", event_clear = "tmin", event_wait = "tmino", event_look = "",
  barrier_wait = "tminn", barrier_open = "tmin", barrier_abort = "tmin", barrier_reset = "tmin", barrier_look = "",
  queue_put = "tminoss|f", queue_get = "tminossn", queue_task_done = "tminosn", queue_join = "tmino",
  queue_leave = "tn|mi", queue_look = "",
  pipe_open = "tmnsss", pipe_send = "tmins", pipe_abort = "tmin", pipe_recv = "tminsi", pipe_leave = "tmi",
  pipe_close = "tmin",
  list_extend = "tmins", list_insert = "tminzs", list_pop = "tminz", list_remove = "tmins", list_set = "tminzs",
  list_delete = "tminyyx", list_clear = "tmin", list_draft = "tminss", list_commit = "tminssn", list_read = "snyyx",
  list_get = "z", list_len = "", list_index = "s", list_count = "sns",
  dict_set = "tmin|ss", dict_setdefault = "tminss", dict_pop = "tmins", dict_popitem = "tmin", dict_clear = "tmin",
  dict_get = "s", dict_contains = "s", dict_len = "", dict_read = "sn",
  array_init = "tminns", array_set = "tminzs", array_write = "tminyyxnn", array_add = "tminzs", array_swap = "tminzss",
  array_get = "z", array_len = "", array_read = "snyyx",
}

-- A frame of items (see there), as far as it can be told without a look at each.
local function is_frame(text)
  local count = #text > 5 and struct.unpack("<H", text) or 0
  return count > 0 and #text >= 2 + 4 * count
end

local KNOWN = 256
local numbers, known = {}, 0

-- Whether it is a whole number of at most 20 digits. Leases, sizes and batches come again and again, and a look into a
-- table is a third of the price of a pattern.
local function is_whole(text)
  if numbers[text] then
    return true
  elseif #text > 20 or not string.find(text, "^%d+$") then
    return false
  elseif known == KNOWN then
    numbers, known = {}, 0
  end
  numbers[text], known = true, known + 1
  return true
end

local FITS = {
  f = is_frame,
  h = function(text) return #text == 24 end,
  m = function(text) return #text == 16 end,
  i = function(text) return (#text < 10 or #text == 10 and text < "4294967296") and string.find(text, "^%d+$") end,
  n = is_whole,
  o = function(text) return #text <= 15 and string.find(text, "^%d*$") end,
  s = function() return true end,
  x = function(text) return #text <= 20 and string.find(text, "^%-?%d*[1-9]%d*$") end, -- the step of a slice
  y = function(text) return text == "" or #text <= 20 and string.find(text, "^%-?%d+$") end, -- a bound of one
  z = function(text) return #text <= 20 and string.find(text, "^%-?%d+$") end,
  t = function(text) return text == "" or #text <= 15 and string.find(text, "^[1-9]%d*$") end, -- as Redis reads it
}

-- What the letters of a shape ask for: of the first arguments, and of those that come again and again.
local function parse_shape(shape)
  local fixed, again = string.match(shape, "^(%l*)|?(%l*)$")
  local first, each = {}, {}
  for letter in string.gmatch(fixed, ".") do
    first[#first + 1] = FITS[letter]
  end
  for letter in string.gmatch(again, ".") do
    each[#each + 1] = FITS[letter]
  end
  return first, each
end

-- What is wrong with the arguments behind the first ones.
local function misfit(args, first, each, bad)
  for i = first, #args - 1, #each do
    for j = 1, #each do
      local text = args[i + j]
      if not text or not each[j](text) then
        return bad(i + j)
      end
    end
  end
end

-- A function that answers what is wrong with a call's arguments, nil or false where nothing is.
local function checker(verb)
  local first, each -- made with the first call: while a library loads it may use nothing but `redis`
  local function bad(i)
    return redis.error_reply("PMQMALFORMED argument " .. i .. " of " .. verb .. " can't be read")
  end
  return function(args)
    if not first then
      first, each = parse_shape(SHAPES[verb])
    end
    for i = 1, #first do
      local text = args[i]
      if not text or not first[i](text) then
        return bad(i)
      end
    end
    return each[1] and misfit(args, #first, each, bad)
  end
end
