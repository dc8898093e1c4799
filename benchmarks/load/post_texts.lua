-- For wrk: posts the lines of a file in turn, as {"text": "..."}; prints what it saw as JSON.
-- wrk ... -s post_texts.lua URL -- FILE. One thread of wrk, so that there is one turn.

local bodies = {}
local at = 0
not_200 = 0

local function quote(text)
   return '"' .. text:gsub('[%c"\\]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

function setup(thread)
   worker = thread
end

function init(arguments)
   for line in io.lines(arguments[1]) do
      bodies[#bodies + 1] = '{"text": ' .. quote(line) .. "}"
   end
end

function request()
   at = at % #bodies + 1
   return wrk.format("POST", nil, nil, bodies[at])
end

function response(status)
   if status ~= 200 then not_200 = not_200 + 1 end
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "seconds": %.6f, "not_200": %d, "lost": %d, "ms": ' ..
      '{"mean": %.3f, "p50": %.3f, "p90": %.3f, "p99": %.3f, "max": %.3f}}\n',
      summary.requests, summary.duration / 1e6, worker:get("not_200"),
      errors.connect + errors.read + errors.write + errors.timeout,
      latency.mean / 1e3, latency:percentile(50) / 1e3, latency:percentile(90) / 1e3,
      latency:percentile(99) / 1e3, latency.max / 1e3))
end
