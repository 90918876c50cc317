-- Removes drivers of whom nothing newer arrived since the cutoff from the index, all parts at once.
-- KEYS: 1 geo index  2 last-seen times  3 times by the devices' clocks        ARGV: 1 cutoff (µs)  2 how many at most
-- Returns how many were removed.
local stale = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
if #stale > 0 then
  redis.call('ZREM', KEYS[1], unpack(stale))
  redis.call('ZREM', KEYS[2], unpack(stale))
  redis.call('HDEL', KEYS[3], unpack(stale))
end
return #stale
