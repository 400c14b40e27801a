-- Puts viewers into a post's set whom PostgreSQL has got past Redis, from an older system: whoever is there is told `duplicate`. The live count
-- stays what it is, as they are recorded and acknowledged at once.
--
-- KEYS: 1 the set of viewers, 2 the meta hash
-- ARGV: 1 TTL in seconds, 2... viewers
-- Returns how many of them were not in the set; -1 where the hash has expired, of which nothing is brought back to life
-- Example: EVAL … 2 post:7:views {post:7:views}:meta 86400 anna boris clara
if redis.call('EXISTS', KEYS[2]) == 0 then
  return -1
end
local added = redis.call('SADD', KEYS[1], unpack(ARGV, 2))
if added > 0 then
  redis.call('HINCRBY', KEYS[2], 'recorded', added)
  redis.call('HINCRBY', KEYS[2], 'acked', added)
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
return added
