-- Bodies for POST /recommend: known users of the demo bundle, some with a session, some with a filter, some new.
local genres = { "horror", "scifi", "romance", "comedy", "drama", "action", "thriller", "fantasy", "family", "documentary",
                 "mystery", "western", "crime", "musical" }
local bodies, position = {}, 0
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init()
    math.randomseed(7)
    for i = 1, 1000 do
        local user = "demo-" .. genres[math.random(#genres)] .. "-" .. math.random(12)
        local body = { '"user_id":"' .. (i % 10 == 0 and "nobody-" .. i or user) .. '"', '"n":20' }
        if i % 3 == 0 then
            local item = string.format("film-%05d", math.random(12000))
            table.insert(body, '"session":[{"item_id":"' .. item .. '","action":"like"}]')
        end
        if i % 7 == 0 then table.insert(body, '"filter":{"field":"year","gte":1990}') end
        bodies[i] = wrk.format("POST", "/recommend", { ["Content-Type"] = "application/json" }, "{" .. table.concat(body, ",") .. "}")
    end
    ok, overloaded, other = 0, 0, 0
end

function request()
    position = position % #bodies + 1
    return bodies[position]
end

function response(status)
    if status == 200 then ok = ok + 1 elseif status == 503 then overloaded = overloaded + 1 else other = other + 1 end
end

function done(summary)
    local count = { ok = 0, overloaded = 0, other = 0 }
    for _, thread in ipairs(threads) do
        for name in pairs(count) do count[name] = count[name] + thread:get(name) end
    end
    local e = summary.errors
    print("requests " .. summary.requests)
    print("ok " .. count.ok)
    print("overloaded " .. count.overloaded)
    print("other " .. count.other)
    print("socket_errors " .. (e.connect + e.read + e.write + e.timeout))
end
