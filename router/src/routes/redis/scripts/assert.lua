-- Looks who has a user's route for a device type, and keeps it alive where it is this address. KEYS: the user's routes.
-- ARGV: device, address, age ms, ms to live. Answers with what is there ('' for nothing) and when the asker connected.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and held:match('^%d+|(.*)$') == ARGV[2] then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return {held or '', now - ARGV[3]}
