-- Brings into order what Redis knows of posts: counts and authors that PostgreSQL has otherwise, numbers that have drifted, times to live.
--
-- KEYS: for each post 2: the meta hash, the set
-- ARGV: 1 TTL in seconds; then for each post 10: the count that Redis had when PostgreSQL was asked (empty for none), the count to be written
--       (empty to leave it), "quiet" to leave it where the outbox has something of the post, `acked` as it has to be for that (empty for any),
--       "meant" where a lower count is no sign that PostgreSQL has lost views, "author" or "" to leave that, the author that Redis had, the
--       author, what is to be added to `recorded`, and to `acked`
-- Returns for each post 1 when it was done, 0 when some of it was not, because Redis knows more by now; or an error
--
-- A count is written only over the one that was there when PostgreSQL was asked: a drain may have put a younger one there since, or another scan.
-- So is an author. `recorded` is corrected only where it still differs from the size of the set by that much. Nothing is brought back to life
-- that has expired.
local call, pcall = redis.call, redis.pcall
local replies = {}
for i = 1, #KEYS / 2 do
  local meta, set, arg = KEYS[2 * i - 1], KEYS[2 * i], 10 * i - 8
  local expected, count, more_recorded, more_acked = ARGV[arg], ARGV[arg + 1], ARGV[arg + 8], ARGV[arg + 9]
  local known = pcall('HMGET', meta, 'persisted', 'recorded', 'acked', 'author')
  local size = more_recorded ~= '0' and pcall('SCARD', set) or 0
  if known.err or type(size) == 'table' then
    replies[i] = known.err and known or size
  elseif call('EXISTS', meta) == 0 then
    pcall('EXPIRE', set, ARGV[1], 'NX')
    replies[i] = 0
  else
    local done, failed = true, nil
    if more_recorded ~= '0' and size - (tonumber(known[2]) or 0) ~= tonumber(more_recorded) then
      done, more_recorded, more_acked = false, '0', '0'
    end
    local numbers = {tonumber(known[2]) or 0, tonumber(known[3]) or 0}
    -- A field that is no number is an error of this post.
    for place, change in ipairs({{'recorded', more_recorded}, {'acked', more_acked}}) do
      local number = change[2] ~= '0' and pcall('HINCRBY', meta, change[1], change[2]) or numbers[place]
      failed = failed or (type(number) == 'table' and number)
      numbers[place] = number
    end
    local fields = {}
    if count ~= '' then
      local is_open = ARGV[arg + 2] ~= 'quiet' or numbers[1] == numbers[2]
      if (known[1] or '') == expected and is_open and (ARGV[arg + 3] == '' or tonumber(ARGV[arg + 3]) == numbers[2]) then
        fields = {'persisted', count}
        if ARGV[arg + 4] == '' and tonumber(count) < (tonumber(expected) or 0) then
          call('HINCRBY', meta, 'fallen', 1)
        end
      else
        done = false
      end
    end
    if ARGV[arg + 5] == 'author' and known[4] == ARGV[arg + 6] then
      fields[#fields + 1], fields[#fields + 2] = 'author', ARGV[arg + 7]
    elseif ARGV[arg + 5] == 'author' then
      done = false
    end
    if #fields > 0 then
      call('HSET', meta, unpack(fields))
    end
    -- Only where there is none.
    call('EXPIRE', meta, ARGV[1], 'NX')
    pcall('EXPIRE', set, ARGV[1], 'NX')
    replies[i] = failed or (done and 1 or 0)
  end
end
return replies
