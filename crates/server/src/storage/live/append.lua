-- Appends a batch of fixes to the stream and moves the shard's index: all of it or, when the stream is full, nothing.
-- KEYS: 1 stream  2 geo index  3 last-seen times            (one slot)
-- ARGV: 1 high-water mark of the stream, then per fix: driver, lat, long, recorded_at (µs), 1 if it may be indexed
-- Returns 1 when stored, 0 when full.
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
for i = 2, #ARGV, 5 do
  local driver, lat, long, at, indexed = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  redis.call('XADD', KEYS[1], '*', 'driver_id', driver, 'lat', lat, 'long', long, 'timestamp', at)
  if indexed == '1' then
    -- An older fix goes to the history only. Microseconds since 1970 are exact in a double until the year 2255.
    local seen = redis.call('ZSCORE', KEYS[3], driver)
    if not seen or tonumber(seen) < tonumber(at) then
      -- 180 degrees east are 180 degrees west: to the index the first lies beyond its last cell, where no one looks.
      redis.call('GEOADD', KEYS[2], tonumber(long) == 180 and '-180' or long, lat, driver)
      redis.call('ZADD', KEYS[3], at, driver)
    end
  end
end
return 1
