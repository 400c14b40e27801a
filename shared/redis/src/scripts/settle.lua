#!lua flags=allow-oom
-- Acknowledges the pairs of posts that a batch of the outbox has and PostgreSQL has taken or refused for good: a post's count and the number of
-- its acknowledged pairs move in one step, for all entries of the batch that name it.
--
-- KEYS: the meta hashes of the posts
-- ARGV: 1 "final" where no increment of `recorded` can be on its way any more, else ""; then for each hash 6: the ids of the first and of the last
--       entry that name the post, how many of its pairs are in the entries from the one to the other, the count in PostgreSQL, the count
--       before these pairs, and the count that Redis had when PostgreSQL was asked for these two once more (empty where it was not)
-- Returns for each hash:
--   0       nothing to do: the hash is gone, or is no hash, or all of these entries have been settled before
--   1       settled
--   2       settled, and PostgreSQL had fewer views than it had before
--   3       nothing is changed: `recorded` lacks some of the pairs, whose increment is on its way, or was lost
--   an id   nothing is changed: entries up to this one have been settled before, and some behind it have not
--   p<n>    nothing is changed: Redis has the count n, which is more than PostgreSQL had before these pairs. Either PostgreSQL has fewer views
--           than it had, or Redis has heard of some that were stored after these: PostgreSQL is to be asked for its count once more
-- Example: EVAL … 1 {post:7:views}:meta "" 5-1 9-0 12 40 28 ""
--
-- Repeating it, or running it twice at once, changes nothing: `settled` says up to which entry a post is settled.
local call, pcall = redis.call, redis.pcall

-- Whether entry id a is behind b. Ids are numbers of up to 20 digits, which Lua's own numbers do not hold.
local function behind(a, b)
  local ams, aseq = string.match(a, '^(%d+)-(%d+)$')
  local bms, bseq = string.match(b, '^(%d+)-(%d+)$')
  if not ams or not bms then return not bms end
  if #ams ~= #bms then return #ams > #bms end
  if ams ~= bms then return ams > bms end
  if #aseq ~= #bseq then return #aseq > #bseq end
  return aseq > bseq
end

local replies = {}
for i = 1, #KEYS do
  local meta, arg = KEYS[i], 6 * i - 4
  local first, last, number, count, before = ARGV[arg], ARGV[arg + 1], tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3]), tonumber(ARGV[arg + 4])
  local known = pcall('HMGET', meta, 'recorded', 'acked', 'settled', 'persisted', 'repeated', 'author')
  local settled = not known.err and known[3]
  if known.err or not (known[1] or known[6]) then
    -- A hash that has expired is not brought back to life: it would have neither an author nor a time to live.
    replies[i] = 0
  elseif settled and not behind(last, settled) then
    replies[i] = 0
  elseif settled and not behind(first, settled) then
    replies[i] = settled
  else
    local recorded, acked, persisted = tonumber(known[1]) or 0, tonumber(known[2]) or 0, tonumber(known[4])
    -- Pairs that `recorded` does not count, because two processes have recorded their viewers at once (see raced.lua).
    local again, later, spans = 0, {}, {}
    for id, pairs in string.gmatch(known[5] or '', '(%S+)=(%d+)') do
      local from, to = string.match(id, '^(.-)%.%.(.*)$')
      local item = {id, tonumber(pairs), is_whole = not behind(to or id, last)}
      if from and not behind(from, last) then
        spans[#spans + 1] = item
      end
      if from or not item.is_whole then
        later[#later + 1] = item
      else
        again = again + item[2]
      end
    end
    again = math.min(again, number)
    -- Of a span that ends behind these pairs, as many are taken as PostgreSQL's count lacks, so that the live count stays what it is. What is left
    -- of a span comes with the next pairs.
    for _, item in ipairs(spans) do
      local here = (item.is_whole or not persisted) and item[2] or persisted + number - again - count
      here = math.max(math.min(here, item[2], number - again), 0)
      again, item[2] = again + here, item[2] - here
    end
    local surplus = math.max(acked + number - again - recorded, 0)
    -- The last of several entries stands for all of them. What is too much in an earlier one is of those.
    for _, item in ipairs(later) do
      local here = math.min(surplus, item[2], number - again)
      again, surplus, item[2] = again + here, surplus - here, item[2] - here
    end
    local fell = persisted and math.min(before, count) < persisted
    if surplus > 0 and ARGV[1] ~= 'final' then
      replies[i] = 3
    elseif fell and ARGV[arg + 5] ~= known[4] then
      replies[i] = 'p' .. known[4]
    else
      acked = acked + number - again - surplus
      local fields = {'acked', acked, 'settled', last}
      -- PostgreSQL may have pairs that are in the outbox still: of a batch that was committed and never settled, or of another process. These
      -- count when they are settled. Where Redis has no count, it gets one when nothing
      -- is left that could be in it twice.
      if persisted then
        fields[5], fields[6] = 'persisted', math.min(count, persisted + number - again)
      elseif acked == recorded then
        fields[5], fields[6] = 'persisted', count
      end
      if again > 0 or (known[5] or '') ~= '' then
        local left = {}
        for _, item in ipairs(later) do
          left[#left + 1] = item[2] > 0 and item[1] .. '=' .. item[2] or nil
        end
        fields[#fields + 1], fields[#fields + 2] = 'repeated', table.concat(left, ' ')
      end
      call('HSET', meta, unpack(fields))
      if fell then
        call('HINCRBY', meta, 'fallen', 1)
      end
      replies[i] = fell and 2 or 1
    end
  end
end
return replies
