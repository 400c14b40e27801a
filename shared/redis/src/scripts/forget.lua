#!lua flags=allow-oom
-- Takes a viewer out of the sets of posts. The live counts, and the equality of `recorded` with the size of each set, stay as they are.
--
-- KEYS: for each post 2: the set, the meta hash
-- ARGV: the spellings of the viewer's id
-- Returns for each post how many of the spellings were taken out; or an error
-- Example: EVAL … 2 post:7:views {post:7:views}:meta anna
local call, pcall = redis.call, redis.pcall
local replies = {}
for i = 1, #KEYS / 2 do
  local set, meta = KEYS[2 * i - 1], KEYS[2 * i]
  local removed = pcall('SREM', set, unpack(ARGV))
  if type(removed) == 'number' and removed > 0 and call('EXISTS', meta) == 1 then
    -- A field that is no number is another one's error.
    pcall('HINCRBY', meta, 'recorded', -removed)
    pcall('HINCRBY', meta, 'acked', -removed)
  end
  replies[i] = removed
end
return replies
