-- The requests of one measurement, for wrk. Who asks for what was decided before: this only puts the pieces together.
--
-- Environment: LOAD_PLAN names a file with one request a line, the numbers of a viewer and a body; LOAD_VIEWERS one with what comes
-- before and, after a tab, what comes behind the body for each viewer; LOAD_BODIES one with a body a line. "\r\n" is spelled out there.
-- Prints one line: RESULT and a JSON object; times are in microseconds.

local function read(name, take)
  for line in io.lines(os.getenv(name)) do take(line) end
end

local function plain(text) return (text:gsub("\\r\\n", "\r\n")) end

local before, behind, bodies, viewers, places = {}, {}, {}, {}, {}
local at = 0

function init()
  read("LOAD_VIEWERS", function(line)
    local first, last = line:match("^(.-)\t(.*)$")
    before[#before + 1] = plain(first)
    behind[#behind + 1] = plain(last)
  end)
  read("LOAD_BODIES", function(line) bodies[#bodies + 1] = plain(line) end)
  read("LOAD_PLAN", function(line)
    local viewer, body = line:match("^(%d+) (%d+)$")
    viewers[#viewers + 1] = tonumber(viewer) + 1
    places[#places + 1] = tonumber(body) + 1
  end)
end

function request()
  at = at % #viewers + 1
  local viewer = viewers[at]
  return before[viewer] .. bodies[places[at]] .. behind[viewer]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"max":%d,"refused":%d,"broken":%d,"late":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end
