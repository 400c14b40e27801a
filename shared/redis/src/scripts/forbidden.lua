-- Tells which commands this account may not send. None of them is run, and nothing is changed.
--
-- KEYS: none
-- ARGV: for each command, how many words it has, and these
-- Returns the first word of each that the account may not send, or that the server does not know.
--
-- Example: EVAL … 0 3 XDEL views:outbox 0-0 2 PING x -> {"XDEL"} for an account with PING alone.
local forbidden, place = {}, 1
while place <= #ARGV do
  local words = {}
  for word = place + 1, place + tonumber(ARGV[place]) do
    words[#words + 1] = ARGV[word]
  end
  place = place + 1 + #words
  local known, may = pcall(redis.acl_check_cmd, unpack(words))
  if not (known and may) then
    forbidden[#forbidden + 1] = words[1]
  end
end
return forbidden
