-- Removes an outbox that has no entries: an empty stream is a key all the same, and where a slot is half moved, it keeps its other half from
-- being brought together with it.
--
-- KEYS: 1 the outbox
-- Returns whether it was removed, as 1 or 0
-- Example: EVAL … 1 views:outbox:{1bz}
if redis.call('XLEN', KEYS[1]) > 0 then
  return 0
end
return redis.call('UNLINK', KEYS[1])
