-- POST /events: wrk … -s events.lua URL -- SIZE RATE SECONDS TAG [USERS]
-- SIZE events a request (1: an object, else an array), RATE requests a second (0: as fast as they are answered) for SECONDS.
-- After that it sends nothing more that is kept and waits for every answer: what it counted is what was acknowledged. Give wrk a few
-- seconds more than that.
local ffi = require("ffi")
ffi.cdef [[ typedef struct { long seconds, nanoseconds; } moment; int clock_gettime(int, moment *); ]]
local moment = ffi.new("moment")
local function clock()
    ffi.C.clock_gettime(1, moment)
    return tonumber(moment.seconds) + tonumber(moment.nanoseconds) * 1e-9
end

local threads = {}
function setup(thread) table.insert(threads, thread) end

local actions = { '"view"', '"click"', '"like"', '"purchase"' }
local size, rate, seconds, tag, users
local first, due, made, isVerified = nil, 0, 0, false

function init(arguments)
    size, rate, seconds = tonumber(arguments[1]), tonumber(arguments[2]), tonumber(arguments[3])
    tag, users = arguments[4], tonumber(arguments[5] or 100000)
    math.randomseed(#tag * 7919 + size)
    -- requests and answers of events; events acknowledged; answers that are not 200 or not whole.
    sent, answered, acknowledged, other, elapsed = 0, 0, 0, 0, 0
end

local function event(now)
    made = made + 1
    -- Zipf with s = 1, near enough: the logarithm of the rank is uniform.
    local user = math.floor(users ^ math.random())
    return '{"user_id":"user-' .. user .. '","item_id":"film-' .. string.format("%05d", math.random(12000))
        .. '","action":' .. actions[math.random(#actions)] .. ',"timestamp":' .. now .. ',"event_id":"' .. tag .. "-" .. made .. '"}'
end

local headers = { ["Content-Type"] = "application/json" }
local idle = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"

function delay()
    if rate == 0 then return 0 end
    local now = clock()
    if first == nil then first, due = now, now end
    due = math.max(due + 1 / rate, now - 1)
    return math.max(0, math.floor((due - now) * 1000))
end

function request()
    -- wrk looks at one request that it does not send.
    if not isVerified then
        isVerified = true
        return idle
    end
    local now = clock()
    if first == nil then first = now end
    if now - first >= seconds then return idle end
    sent = sent + 1
    local time = os.time()
    if size == 1 then return wrk.format("POST", "/events", headers, event(time)) end
    local events = {}
    for i = 1, size do events[i] = event(time) end
    return wrk.format("POST", "/events", headers, "[" .. table.concat(events, ",") .. "]")
end

function response(status, _, body)
    local stored = tonumber(body:match('"stored":(%d+)'))
    local now = clock() - first
    if stored or status ~= 200 then
        answered = answered + 1
        acknowledged = acknowledged + (stored or 0)
        if status ~= 200 or stored ~= size then other = other + 1 end
        elapsed = now
    end
    if now >= seconds and (answered >= sent or now > seconds + 30) then wrk.thread:stop() end
end

function done(summary)
    local thread = threads[1]
    for _, name in ipairs({ "sent", "answered", "acknowledged", "other", "elapsed" }) do print(name .. " " .. thread:get(name)) end
    local e = summary.errors
    print("socket_errors " .. (e.connect + e.read + e.write + e.timeout))
end
