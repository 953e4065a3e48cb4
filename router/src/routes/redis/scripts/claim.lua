-- Takes a user's route for a device type. KEYS: the user's routes. ARGV: device, address, age ms, ms to live, and a value
-- that gives way although it is of a later session (its lease is over). Answers with what became of it and what was there.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mine = string.format('%.0f|%s', now - ARGV[3], ARGV[2])
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and held ~= ARGV[5] then
  if held:match('^%d+|(.*)$') == ARGV[2] then
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
    return {'held', held}
  end
  -- Connected, edge, shard, slot, generation, epoch: the greater one has the route.
  local next_of_mine = mine:gmatch('%d+')
  for theirs in held:gmatch('%d+') do
    local ours = next_of_mine()
    if tonumber(theirs) > tonumber(ours) then
      return {'superseded', held}
    elseif tonumber(theirs) < tonumber(ours) then
      break
    end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], mine)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {'taken', held or ''}
