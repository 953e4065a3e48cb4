-- Uses refresh tokens up, up to one of them; whether that one was good. KEYS: the user's and device's mark. ARGV: the
-- token's stamp, what becomes the earliest good stamp, ms until no older token is in time.
local earliest = redis.call('GET', KEYS[1])
if earliest and tonumber(ARGV[1]) < tonumber(earliest) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
