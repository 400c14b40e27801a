-- Takes viewers out of a set that neither the ledger nor the outbox has. The live count and the equality of `recorded` with the size of the
-- set stay as they are.
--
-- KEYS: 1 the set, 2 the meta hash
-- ARGV: 1 how many notes that PostgreSQL has fewer views than it had are seen to by this (0 where more viewers are to follow), 2... the viewers
-- Returns how many were taken out.
local removed = #ARGV > 1 and redis.call('SREM', KEYS[1], unpack(ARGV, 2)) or 0
if redis.call('EXISTS', KEYS[2]) == 1 then
  if removed > 0 then
    redis.call('HINCRBY', KEYS[2], 'recorded', -removed)
    redis.call('HINCRBY', KEYS[2], 'acked', -removed)
  end
  if ARGV[1] ~= '0' then
    redis.call('HINCRBY', KEYS[2], 'fallen', -ARGV[1])
  end
end
return removed
