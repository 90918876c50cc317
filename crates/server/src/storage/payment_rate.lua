-- Takes tokens out of the bucket of calls to the payment provider: GCRA, by the time at which the bucket is full again.
-- KEYS: 1 bucket
-- ARGV: 1 µs in which one token comes  2 tokens in a full bucket  3 tokens that are wanted
-- Returns how many were taken, and if none was: in how many µs there is one.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval, size, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
-- Neither file nor replica needs it: a bucket that is lost is a full one. Each write to the file would wait for the disk.
redis.set_repl(redis.REPL_NONE)
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
-- A clock that was set back must not leave the bucket empty until it has caught up.
full_at = math.min(full_at, now + size * interval)
local there = math.floor((now + size * interval - full_at) / interval)
if there < 1 then
  return {0, math.ceil(full_at - (size - 1) * interval - now)}
end
local taken = math.min(there, wanted)
full_at = full_at + taken * interval
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil(size * interval / 1000) + 1000)
return {taken, 0}
