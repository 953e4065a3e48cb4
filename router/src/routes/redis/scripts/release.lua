-- Removes a route where it is still this address; whether it was. KEYS: the user's routes. ARGV: device, address.
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and held:match('^%d+|(.*)$') == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
