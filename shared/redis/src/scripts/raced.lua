-- Corrects the numbers of a post after two processes have recorded the same viewers at once: the outbox has their pairs twice, and `recorded` is
-- to count each of them once. Run by the process that found the viewers in the set already.
--
-- KEYS: 1 the meta hash
-- ARGV: 1 the id of the last entry in which this process has put pairs of the post, 2 how many of them were there already
-- Returns 1, or 0 where the hash has expired.
--
-- `repeated` tells whoever settles the entry that so many of its pairs are not in `recorded` ("5-1=2 7-0=1"). Where it is settled already, they
-- were acknowledged.
local known = redis.call('HMGET', KEYS[1], 'recorded', 'settled', 'repeated')
if not known[1] then
  return 0
end
redis.call('HINCRBY', KEYS[1], 'recorded', -ARGV[2])
local function behind(a, b)
  local ams, aseq = string.match(a, '^(%d+)-(%d+)$')
  local bms, bseq = string.match(b, '^(%d+)-(%d+)$')
  if not ams or not bms then return not bms end
  if #ams ~= #bms then return #ams > #bms end
  if ams ~= bms then return ams > bms end
  if #aseq ~= #bseq then return #aseq > #bseq end
  return aseq > bseq
end
if known[2] and not behind(ARGV[1], known[2]) then
  redis.call('HINCRBY', KEYS[1], 'acked', -ARGV[2])
else
  local list, pairs = known[3] or '', ARGV[2]
  if #list > 2000 then
    -- Nothing grows without bound. The pairs before it may be settled with these.
    local rest, before = string.match(list, '^(.*)%S+=(%d+)$')
    list, pairs = rest or '', pairs + (before or 0)
  end
  redis.call('HSET', KEYS[1], 'repeated', list .. (list == '' and '' or ' ') .. ARGV[1] .. '=' .. pairs)
end
return 1
