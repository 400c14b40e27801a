-- Puts what PostgreSQL knows of a post into Redis, unless somebody has done so already, or brings it up to date after views past Redis. For a
-- reader that is the author and the count; for a viewer, the viewers too.
--
-- KEYS: 1 the set of viewers, 2 the meta hash
-- ARGV: 1 TTL in seconds, 2 author (may be empty), 3 count in PostgreSQL, 4 "read", "view" or "refresh", 5 the count that Redis had when PostgreSQL
--       was asked (empty for none; only looked at for "refresh"), 6... viewers known to the ledger (none for "read")
-- Returns 1 when it was put there, 0 when it was there, 2 when nothing was done because Redis has another count by now, or because there are
-- viewers of a post that is only to be read: the count in PostgreSQL may have them or not, which only a view's look-up tells.
--
-- Viewers that come from the ledger are recorded and acknowledged at once: the live count stays what it is, and the size of the
-- set stays equal to `recorded`, by which the scan tells whether somebody else has written to the set.
local mode = ARGV[4]
local done = mode == 'read' and 'author' or 'loaded'
if mode ~= 'refresh' and redis.call('HEXISTS', KEYS[2], done) == 1 then
  return 0
end
local before = redis.call('HMGET', KEYS[2], 'persisted')[1] or ''
if mode == 'refresh' and before ~= ARGV[5] then
  return 2
end
if mode == 'read' and before == '' then
  -- EXISTS would be one more command that the README has to grant. What is no set is somebody else's, and nothing to be put beside.
  local size = redis.pcall('SCARD', KEYS[1])
  if type(size) == 'table' or size > 0 or redis.call('HEXISTS', KEYS[2], 'recorded') == 1 then
    return 2
  end
end
local added = 0
for first = 6, #ARGV, 1000 do
  added = added + redis.call('SADD', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
if added > 0 then
  redis.call('HINCRBY', KEYS[2], 'recorded', added)
  redis.call('HINCRBY', KEYS[2], 'acked', added)
end
-- A count that is there is never lowered: what was read from PostgreSQL may be older than what a drain has put here since. And it may hold what
-- the outbox still has of the post, which then would count twice: the drain brings the count together with the acknowledgement. So where
-- something is pending, only those are added that went past Redis and of whom it has not heard at all. Viewers that a view brings after a read
-- has brought the count are in that already.
local known = redis.call('HMGET', KEYS[2], 'recorded', 'acked')
local persisted, count = tonumber(before), tonumber(ARGV[3])
local now = persisted
if persisted and mode == 'refresh' then
  now = math.max(persisted, math.min(persisted + added, count))
end
if (known[1] or '0') == (known[2] or '0') then
  now = math.max(persisted or count, count)
end
if now and now ~= persisted then
  redis.call('HSET', KEYS[2], 'persisted', now)
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[1])
-- The author comes last: should Redis run out of memory on the way, the post still counts as untouched, and all of this is repeated.
if mode == 'read' then
  redis.call('HSET', KEYS[2], 'author', ARGV[2])
else
  redis.call('HSET', KEYS[2], 'author', ARGV[2], 'loaded', 1)
end
return 1
