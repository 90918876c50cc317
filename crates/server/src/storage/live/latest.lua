-- Sets the latest fix of drivers, each unless a newer one is known.
-- KEYS: driver:<id> ...
-- ARGV: per key: driver, lat, long, recorded_at (µs), when it expires (ms)
for i, key in ipairs(KEYS) do
  local a = (i - 1) * 5
  local known = redis.call('HGET', key, 'timestamp')
  if not known or tonumber(known) < tonumber(ARGV[a + 4]) then
    redis.call('HSET', key, 'driver_id', ARGV[a + 1], 'lat', ARGV[a + 2], 'long', ARGV[a + 3], 'timestamp', ARGV[a + 4])
    redis.call('PEXPIREAT', key, ARGV[a + 5])
  end
end
return #KEYS
