-- Corrects the numbers of a post after two processes have recorded the same viewers at once: the outbox has their pairs twice, and `recorded` is
-- to count each of them once. Run by the process that found the viewers in the set already.
--
-- KEYS: 1 the meta hash
-- ARGV: 1 the id of the last entry in which this process has put pairs of the post, 2 how many of them were there already
-- Returns 1, or 0 where the hash has expired.
--
-- `repeated` tells whoever settles the entry that so many of its pairs are not in `recorded` ("5-1=2 7-0=1"), or that so many are not of the
-- entries from one to another ("8-0..9-3=40"). Where it is settled already, they were acknowledged.
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
  local list, first, last, pairs = known[3] or '', ARGV[1], ARGV[1], tonumber(ARGV[2])
  if #list > 2000 then
    -- Nothing grows without bound: the last item becomes one that says only between which entries the pairs are.
    local rest, span, more = string.match(list, '^(.* )(%S+)=(%d+)$')
    if rest then
      local from, to = string.match(span, '^(.-)%.%.(.*)$')
      from, to = from or span, to or span
      first, last = behind(from, first) and first or from, behind(to, last) and to or last
      list, pairs = string.sub(rest, 1, -2), pairs + more
    end
  end
  local span = first == last and last or first .. '..' .. last
  redis.call('HSET', KEYS[1], 'repeated', list .. (list == '' and '' or ' ') .. span .. '=' .. string.format('%d', pairs))
end
return 1
