-- Brings into order what Redis knows of posts: counts and authors that PostgreSQL has otherwise, numbers that have drifted, times to live.
--
-- KEYS: for each post 2: the meta hash, the set
-- ARGV: 1 TTL in seconds, 2 "quiet" to leave posts alone that have something in the outbox, else ""; then for each post 6: the count that
--       Redis had when PostgreSQL was asked (empty for none), the count in PostgreSQL (empty to leave it), "author" or "" to leave that, the
--       author, and what is to be added to `recorded` and to `acked`
-- Returns for each post 1 when it was done, 0 when it was not, because Redis knows more than when PostgreSQL was asked; or an error
--
-- A count is written only over the one that was there when PostgreSQL was asked: a drain may have put a younger one there since. Nothing is
-- brought back to life that has expired.
local call, pcall = redis.call, redis.pcall
local replies = {}
for i = 1, #KEYS / 2 do
  local meta, set, arg = KEYS[2 * i - 1], KEYS[2 * i], 6 * i - 3
  local expected, count, more_recorded, more_acked = ARGV[arg], ARGV[arg + 1], ARGV[arg + 4], ARGV[arg + 5]
  local known = pcall('HMGET', meta, 'persisted', 'recorded', 'acked')
  if known.err then
    replies[i] = known
  else
    local exists = call('EXISTS', meta) == 1
    local is_quiet = ARGV[2] ~= 'quiet' or (known[2] or '0') == (known[3] or '0')
    local done, failed = exists and is_quiet, nil
    if done then
      local fields = {}
      if count ~= '' then
        done = (known[1] or '') == expected
        if done then
          fields = {'persisted', count}
          if tonumber(count) < (tonumber(expected) or 0) then
            fields[3], fields[4] = 'fallen', 1
          end
        end
      end
      if ARGV[arg + 2] == 'author' then
        fields[#fields + 1], fields[#fields + 2] = 'author', ARGV[arg + 3]
      end
      if #fields > 0 then
        call('HSET', meta, unpack(fields))
      end
      -- A field that is no number is an error of this post.
      for field, more in pairs({recorded = more_recorded, acked = more_acked}) do
        local reply = more == '0' or pcall('HINCRBY', meta, field, more)
        failed = failed or (type(reply) == 'table' and reply)
      end
      -- Only where there is none.
      call('EXPIRE', meta, ARGV[1], 'NX')
    end
    pcall('EXPIRE', set, ARGV[1], 'NX')
    replies[i] = failed or (done and 1 or 0)
  end
end
return replies
