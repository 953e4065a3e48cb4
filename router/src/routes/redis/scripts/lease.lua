-- Takes or renews a lease. KEYS: members. ARGV: field, epoch, "1" for a renewal, the rest of the value, lease ms, most
-- members, "-" and the worker or "".
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A server that was restarted, or took over, may lack the latest claims: its leases are not renewed.
local run = redis.call('INFO', 'server'):match('run_id:(%w+)') or '-'
local held = redis.call('HGET', KEYS[1], ARGV[1])
local replaced = ''
if held then
  local epoch, renewed, state, on = held:match('^(%d+)|(%d+)|(%a+)|(%w*)')
  local is_live = state == 'live' and now < renewed + ARGV[5]
  if epoch == ARGV[2] then
    if not is_live or on ~= run then
      redis.call('HSET', KEYS[1], ARGV[1], (held:gsub('|live|', '|over|', 1)))
      return {'over', ''}
    end
  elseif ARGV[3] == '1' or tonumber(epoch) > tonumber(ARGV[2]) then
    return {'over', ''}
  elseif is_live then
    replaced = epoch
  end
  held = epoch == ARGV[2]
elseif ARGV[3] == '1' or redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then
  return {'over', ''}
end
local value = string.format('%s|%.0f|live|%s%s|%s', ARGV[2], now, run, ARGV[7], ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], value)
return {held and 'held' or 'new', replaced}
