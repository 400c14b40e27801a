# The two daemons on free ports, or on their documented ones. Sourced after stores.sh.

# How long a daemon may take to listen or to stop waiting for its stores.
DAEMON_SECONDS=30

# Prints the folder that cargo builds into.
target_folder() { cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'; }

# daemon_environment SECRET_FILE: what both daemons are told, and nothing of the caller's own environment.
daemon_environment() {
    DAEMON_ENV=(env -i "PATH=$PATH" "REDIS_URL=$REDIS_URL" "DATABASE_URL=$DATABASE_URL" "JWT_SECRET_FILE=$1")
}

# start_daemon NAME PROGRAM FLAG…: starts a daemon and waits until it is ready.
start_daemon() {
    local name=$1
    shift
    # A log of an earlier daemon of that name would answer for this one.
    : >"$SCRATCH/$name.log"
    start "$name" TERM "${DAEMON_ENV[@]}" "$@"
    if ! wait_until "$DAEMON_SECONDS" answered_or_gone "$name" "ready" || not_running "$name"; then
        show_logs
        fail "$name does not start"
    fi
}

# start_ingest NAME FLAG…: starts view-ingest, and waits until each of its workers has its connection to Redis. Without one, views go
# straight into PostgreSQL, and there would be nothing to see in Redis.
start_ingest() {
    start_daemon "$1" "$BIN/view-ingest" "${@:2}"
    wait_until "$DAEMON_SECONDS" workers_connected "$1" || fail "$1 does not connect to Redis"
}

workers_connected() {
    local workers
    workers=$(sed -n 's/.*view-ingest started workers=\([0-9]*\).*/\1/p' "$SCRATCH/$1.log")
    [[ -n $workers ]] && (($(grep -c 'Redis connected' "$SCRATCH/$1.log") >= workers))
}

# address_of NAME LISTENER: the address that the daemon's log names.
address_of() {
    sed -n "s/.*listening listener=\"\\{0,1\\}$2\"\\{0,1\\} address=\\([0-9.:]*\\).*/\\1/p" "$SCRATCH/$1.log" | tail -n 1
}

# ready NAME: whether its stores answer it.
ready() { [[ $(status_of "http://$(address_of "$1" admin)/readyz") == 200 ]]; }

# status_of CURL-ARGUMENT…: the status of an answer.
status_of() { curl -sS -o /dev/null -w '%{http_code}' --max-time 30 "$@" 2>/dev/null || true; }

# documented_or_free PORT: the port that the documentation names is nicer for people, where nobody has it.
documented_or_free() { if port_is_free "$1"; then echo "127.0.0.1:$1"; else echo 127.0.0.1:0; fi; }
