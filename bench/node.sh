# Sourced by the scripts of this folder: a node of its own in a temporary directory, stopped at exit.
set -euo pipefail
cd "$(dirname "$0")/.."
belfry=${BELFRY:-build/belfry}
port=${PORT:-18083}
url=http://127.0.0.1:$port
dir=$(mktemp -d)
node_pid=
cleanup() {
    [ -z "$node_pid" ] || { kill "$node_pid" 2>/dev/null || true; wait "$node_pid" 2>/dev/null || true; }
    rm -rf "$dir"
}
trap cleanup EXIT

start_node() { # flags...
    "$belfry" serve --data "$dir/data" --listen "127.0.0.1:$port" --log-file "$dir/log" "$@" &
    node_pid=$!
    for _ in $(seq 500); do
        curl -fs "$url/readyz" >/dev/null 2>&1 && return 0
        kill -0 "$node_pid" || { tail -n 3 "$dir/log"; return 1; }
        sleep 0.01
    done
    return 1
}
stop_node() { kill "$node_pid"; wait "$node_pid"; node_pid=; }
json() { python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
signup() { # name -> access token
    curl -fs "$url/v1/auth/signup" -H 'Content-Type: application/json' \
        -d "{\"username\":\"$1\",\"email\":\"$1@example.org\",\"password\":\"password1\"}" | json access_token
}
metric() { curl -fs "$url/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }
cat >"$dir/post.lua" <<'END'
-- TOKENS: one a line; each connection's requests take them in turn.
local tokens = {}
for line in io.lines(os.getenv("TOKENS")) do tokens[#tokens + 1] = line end
local n = 0
request = function()
    n = n + 1
    return wrk.format("POST", "/v1/reminders",
        {["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. tokens[n % #tokens + 1]},
        '{"title":"buy milk","content":"two litres of it, and a loaf of bread, before the shop closes at eight"}')
end
END
cat >"$dir/signup.lua" <<'END'
local thread = 0
setup = function(t) thread = thread + 1; t:set("id", thread) end
init = function() n = 0; base = tostring(os.time()) end
request = function()
    n = n + 1
    local name = "u" .. base .. "x" .. id .. "x" .. n
    return wrk.format("POST", "/v1/auth/signup", {["Content-Type"] = "application/json"},
        '{"username":"' .. name .. '","email":"' .. name .. '@example.org","password":"correct horse"}')
end
END
