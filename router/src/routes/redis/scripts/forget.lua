-- Forgets members that lapsed long ago. KEYS: members. ARGV: how long ago, ms. Answers with how many.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
local count = 0
for i = 1, #all, 2 do
  local renewed = all[i + 1]:match('^%d+|(%d+)|%a+|') or all[i + 1]:match('^(%d+)|')
  if tonumber(renewed) + ARGV[1] <= now then
    redis.call('HDEL', KEYS[1], all[i])
    count = count + 1
  end
end
return count
