-- Sets the latest fix of drivers, each unless a newer one is known. A key that another program holds stays as it is.
-- KEYS: driver:<id> ...
-- ARGV: 1 now (µs)  2 when they expire (ms), per key: driver, lat, long, recorded_at (µs)
-- Returns how many keys others hold.
local foreign = 0
for i, key in ipairs(KEYS) do
  local a = 2 + (i - 1) * 4
  -- An error where it is no hash.
  local known = redis.pcall('HMGET', key, 'driver_id', 'timestamp')
  local at = not known.err and known[2] and tonumber(known[2])
  local is_ours = not known.err and known[1] == ARGV[a + 1] and at
  if is_ours and at >= tonumber(ARGV[a + 4]) then
    -- A newer one is known.
  elseif is_ours or (not known.err and not known[1] and not known[2] and redis.call('EXISTS', key) == 0) then
    redis.call('HSET', key, 'driver_id', ARGV[a + 1], 'lat', ARGV[a + 2], 'long', ARGV[a + 3], 'timestamp', ARGV[a + 4],
      'arrived_at', ARGV[1])
    redis.call('PEXPIREAT', key, ARGV[2])
  else
    foreign = foreign + 1
  end
end
return foreign
