-- Counts a login before it is tried. KEYS: the account's count. ARGV: the window's ms, most tries. Answers with 0, or with
-- how long to wait, ms.
local tries = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if tries == 1 or left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  left = tonumber(ARGV[1])
end
if tries > tonumber(ARGV[2]) then
  redis.call('DECR', KEYS[1])
  return math.max(left, 1)
end
return 0
