-- Puts viewers into a post's set whom PostgreSQL has got past Redis, from an older system: whoever is there is told `duplicate`. With the last of
-- them the count moves by what they have changed in PostgreSQL.
--
-- KEYS: 1 the set of viewers, 2 the meta hash
-- ARGV: 1 TTL in seconds, 2 the count that Redis had before they were stored, 3 by how much the count in PostgreSQL has changed with them (empty
--       where more viewers follow), 4 how many of those that were sent before were in the set already, 5... viewers
-- Returns how many of these were not in the set, and 1 when the count is right, 0 when Redis has another count by now, or none; -1 and 0 where the
-- hash has expired, of which nothing is brought back to life
-- Example: EVAL … 2 post:7:views {post:7:views}:meta 86400 40 3 0 anna boris clara
--
-- They are recorded and acknowledged at once, as in hydrate.lua: the live count moves by the third argument alone. While something is pending, it
-- moves by as much less as viewers were in the set before: these may be pending, and count already.
if redis.call('EXISTS', KEYS[2]) == 0 then
  return {-1, 0}
end
local added = #ARGV > 4 and redis.call('SADD', KEYS[1], unpack(ARGV, 5)) or 0
if added > 0 then
  redis.call('HINCRBY', KEYS[2], 'recorded', added)
  redis.call('HINCRBY', KEYS[2], 'acked', added)
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
if ARGV[3] == '' or ARGV[3] == '0' then
  return {added, 1}
end
local known = redis.call('HMGET', KEYS[2], 'persisted', 'recorded', 'acked')
if not known[1] or known[1] ~= ARGV[2] then
  return {added, 0}
end
local more = tonumber(ARGV[3])
if more > 0 and (known[2] or '0') ~= (known[3] or '0') then
  more = math.max(0, more - tonumber(ARGV[4]) - (#ARGV - 4 - added))
end
redis.call('HSET', KEYS[2], 'persisted', string.format('%.0f', math.max(0, tonumber(known[1]) + more)))
return {added, 1}
