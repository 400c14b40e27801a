-- Acknowledges outbox entries whose pairs PostgreSQL has taken or refused for good: deletes them and settles the posts' counts, in one step.
--
-- KEYS: 1 the outbox, 2... the meta hashes of the posts
-- ARGV: 1 how many entries follow; for each entry its id, how many posts it names, and for each of these the post's place among
--       the meta hashes and its number of pairs; then, for each meta hash, the count in PostgreSQL
-- Returns how many entries were deleted.
--
-- Only entries that this very call deletes are acknowledged, so that repeating it, or running it twice at once, changes nothing.
-- `acked` never passes `recorded`: where a meta hash has expired or an increment was lost, the count in PostgreSQL alone is true.
local at = 2
local deleted = 0
local acked = {}
for _ = 1, tonumber(ARGV[1]) do
  local gone = redis.call('XDEL', KEYS[1], ARGV[at])
  local posts = tonumber(ARGV[at + 1])
  at = at + 2
  for _ = 1, posts do
    local place = tonumber(ARGV[at])
    acked[place] = (acked[place] or 0) + gone * tonumber(ARGV[at + 1])
    at = at + 2
  end
  deleted = deleted + gone
end
for place, number in pairs(acked) do
  if number > 0 then
    local meta = KEYS[place + 1]
    local known = redis.call('HMGET', meta, 'recorded', 'acked', 'author')
    -- A hash that has expired is not brought back to life: it would have neither an author nor a time to live.
    if known[1] or known[3] then
      local recorded = tonumber(known[1] or 0)
      local before = tonumber(known[2] or 0)
      local after = math.max(before, math.min(before + number, recorded))
      redis.call('HSET', meta, 'persisted', ARGV[at + place - 1], 'acked', string.format('%.0f', after))
    end
  end
end
return deleted
