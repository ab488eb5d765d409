-- Frames of items: how many they are (2 bytes), then each behind its length (4 bytes). So a batch is one string all the way
-- through; item by item Lua would take ten times as long.

local function frame_count(frame)
  return (struct.unpack("<H", frame))
end

-- Cuts a frame behind its first n items; answers the head, the tail where there is one, and how many the head has.
local function cut(frame, n)
  local count, at = frame_count(frame), 3
  if n >= count then
    return frame, nil, count
  end
  for _ = 1, n do
    if at + 3 > #frame then -- no frame of ours; it must not stand in the way
      return frame, nil, count
    end
    at = at + 4 + struct.unpack("<I4", frame, at)
  end
  local head, tail = string.sub(frame, 3, at - 1), string.sub(frame, at)
  return struct.pack("<H", n) .. head, struct.pack("<H", count - n) .. tail, n
end

-- The frames in a run of them.
local function frames_of(run)
  local frames, from = {}, 1
  while from < #run do
    local at = from + 2
    for _ = 1, at <= #run and struct.unpack("<H", run, from) or 0 do
      at = at + 3 > #run and #run + 1 or at + 4 + struct.unpack("<I4", run, at) -- no frame of ours is as long as it says
    end
    frames[#frames + 1] = string.sub(run, from, at - 1)
    from = at
  end
  return frames
end

-- The items of frames, each in a frame of its own.
local function singles(frames)
  local items = {}
  for _, frame in ipairs(frames) do
    local at = 3
    for _ = 1, frame_count(frame) do
      if at + 3 > #frame then -- no frame of ours; it must not stand in the way
        items[#items + 1] = at == 3 and frame or nil
        break
      end
      local next = at + 4 + struct.unpack("<I4", frame, at)
      items[#items + 1] = struct.pack("<H", 1) .. string.sub(frame, at, next - 1)
      at = next
    end
  end
  return items
end
