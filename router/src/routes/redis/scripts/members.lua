-- All leases and services, and the server's time by which they are judged. KEYS: members.
local time = redis.call('TIME')
return {time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGETALL', KEYS[1])}
