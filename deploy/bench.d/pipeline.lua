-- wrk -s pipeline.lua URL -- DEPTH: so many requests in one write.
function init(arguments)
    local depth = tonumber(arguments[1]) or 16
    local all = {}
    for i = 1, depth do all[i] = wrk.format() end
    requests = table.concat(all)
end

function request() return requests end
