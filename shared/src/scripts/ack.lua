-- Acknowledges outbox entries whose pairs PostgreSQL has taken or refused for good: deletes them and settles the posts' counts, in one step.
--
-- KEYS: 1 the outbox, 2... the meta hashes of the posts
-- ARGV: 1 in JSON: the entries, each of them its id and the places of the posts that it names among the meta hashes, as often as it has
--       pairs of them; then, for each meta hash, the count in PostgreSQL
-- Returns how many entries were deleted.
--
-- Only entries that this very call deletes are acknowledged, so that repeating it, or running it twice at once, changes nothing.
-- `acked` never passes `recorded`: where a meta hash has expired or an increment was lost, the count in PostgreSQL alone is true.
local work = cjson.decode(ARGV[1])
local entries, counts = work[1], work[2]
local call = redis.call
local deleted = 0
local named = {}
for i = 1, #entries do
  local entry = entries[i]
  if call('XDEL', KEYS[1], entry[1]) == 1 then
    deleted = deleted + 1
    local places = entry[2]
    for j = 1, #places do
      named[places[j]] = (named[places[j]] or 0) + 1
    end
  end
end
for place = 1, #counts do
  local number = named[place]
  if number then
    local meta = KEYS[place + 1]
    local known = call('HMGET', meta, 'recorded', 'acked')
    -- A hash that has expired is not brought back to life: it would have neither an author nor a time to live.
    if known[1] or call('HEXISTS', meta, 'author') == 1 then
      local recorded, before = tonumber(known[1] or 0), tonumber(known[2] or 0)
      call('HSET', meta, 'persisted', counts[place], 'acked', math.max(before, math.min(before + number, recorded)))
    end
  end
end
return deleted
