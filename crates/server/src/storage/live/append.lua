-- Appends a batch of fixes to the stream, all of it or, when the stream is full, nothing; and moves the shard's index, also when it is full: where a
-- driver is matters though its track is not kept.
-- KEYS: 1 stream  2 geo index  3 last-seen times  4 times by the devices' clocks            (one slot)
-- ARGV: 1 high-water mark of the stream  2 now (µs)  3 how many fixes
--       per fix: driver, lat, long, recorded_at (µs)
--       per driver that one of them may move: the place of its newest one among them, from 0
-- Returns how long the stream is then; 0 when it is full.
local length = redis.call('XLEN', KEYS[1])
local is_full = length >= tonumber(ARGV[1])
local moves = 4 + 4 * ARGV[3]
if is_full then
  -- Removes nothing, but is a write, also where no one moves: a Redis that became a replica refuses it.
  redis.call('HDEL', KEYS[4], '')
else
  for i = 4, moves - 1, 4 do
    redis.call('XADD', KEYS[1], '*', 'driver_id', ARGV[i], 'lat', ARGV[i + 1], 'long', ARGV[i + 2], 'timestamp', ARGV[i + 3])
  end
end
-- A thousand drivers at once: a call has room for 8,000 arguments.
for first = moves, #ARGV, 1000 do
  local last = math.min(first + 999, #ARGV)
  local fixes, drivers = {}, {}
  for i = first, last do
    local fix = 4 + 4 * ARGV[i]
    fixes[#fixes + 1] = fix
    drivers[#drivers + 1] = ARGV[fix]
  end
  local known = redis.call('HMGET', KEYS[4], unpack(drivers))
  local places, seen, recorded = {}, {}, {}
  for n, driver in ipairs(drivers) do
    local i = fixes[n]
    local at = ARGV[i + 3]
    -- An older fix goes to the history only. Microseconds since 1970 are exact in a double until the year 2255.
    if not known[n] or tonumber(known[n]) < tonumber(at) then
      local long = ARGV[i + 2]
      -- 180 degrees east are 180 degrees west: to the index the first lies beyond its last cell, where no one looks.
      places[#places + 1] = tonumber(long) == 180 and '-180' or long
      places[#places + 1] = ARGV[i + 1]
      places[#places + 1] = driver
      seen[#seen + 1] = ARGV[2]
      seen[#seen + 1] = driver
      recorded[#recorded + 1] = driver
      recorded[#recorded + 1] = at
    end
  end
  if #places > 0 then
    redis.call('GEOADD', KEYS[2], unpack(places))
    redis.call('ZADD', KEYS[3], unpack(seen))
    redis.call('HSET', KEYS[4], unpack(recorded))
  end
end
return is_full and 0 or length + ARGV[3]
