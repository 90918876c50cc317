-- Removes what is in the history already, unless this is another stream than the one that was read.
-- KEYS: 1 stream
-- ARGV: 1 the first entry that is kept  2 the entry that the history is written up to
-- Returns how many entries were removed; nothing where the second entry is missing.
if #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) == 0 then
  return false
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[1])
