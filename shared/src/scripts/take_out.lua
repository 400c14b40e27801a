-- Takes viewers out of a set that neither the ledger nor the outbox has. The live count and the equality of `recorded` with the size of the
-- set stay as they are.
--
-- KEYS: 1 the set, 2 the meta hash
-- ARGV: the viewers
-- Returns how many were taken out.
local removed = redis.call('SREM', KEYS[1], unpack(ARGV))
if removed > 0 and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('HINCRBY', KEYS[2], 'recorded', -removed)
  redis.call('HINCRBY', KEYS[2], 'acked', -removed)
end
return removed
