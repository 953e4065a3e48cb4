-- Ends a lease for good. KEYS: members. ARGV: field, epoch.
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and held:match('^(%d+)|') == ARGV[2] then
  redis.call('HSET', KEYS[1], ARGV[1], (held:gsub('|live|', '|over|', 1)))
end
return 0
