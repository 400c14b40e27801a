# Private Redis and PostgreSQL on free ports, which nobody else can use: each has a password of this run. Sourced after processes.sh.

# Settings of the caller's own psql would lead it to another server.
unset "${!PG@}"
export PSQLRC=/dev/null PAGER=cat
# A proxy is not asked for this machine's own addresses.
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1

# How long a store may take to start.
STORE_SECONDS=60
# How the stores are run: PostgreSQL refuses to run as root.
AS_STORE_USER=()

# Prints a port of this machine that nobody listens on, below those that the system gives to outgoing connections.
free_port() {
    local port
    while true; do
        port=$((20000 + RANDOM % 10000))
        port_is_free "$port" && break
    done
    echo "$port"
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# store_folder NAME: makes a folder that belongs to the stores' user.
store_folder() {
    mkdir -m 700 "$SCRATCH/$1"
    ((EUID)) || chown "$STORE_USER" "$SCRATCH/$1"
}

# Starts both. Sets REDIS_URL, REDIS_PORT, DATABASE_URL and PG_PORT, and exports what redis-cli and psql take their passwords from.
start_stores() {
    if ((EUID == 0)); then
        STORE_USER=postgres
        id -u postgres >/dev/null 2>&1 || STORE_USER=nobody
        AS_STORE_USER=(setpriv "--reuid=$STORE_USER" "--regid=$(id -g "$STORE_USER")" --init-groups --)
    fi
    export REDISCLI_AUTH PGPASSWORD
    REDISCLI_AUTH=$(openssl rand -hex 16)
    PGPASSWORD=$(openssl rand -hex 16)
    store_folder redis
    store_folder postgres
    try_ports redis start_redis
    create_cluster
    try_ports postgres start_postgres
    REDIS_URL=redis://:$REDISCLI_AUTH@127.0.0.1:$REDIS_PORT/0
    DATABASE_URL=postgres://demo:$PGPASSWORD@127.0.0.1:$PG_PORT/demo
}

# try_ports NAME START: another program may take a free port before the store does; then another one is tried.
try_ports() {
    local attempt
    for attempt in 1 2 3 4 5; do
        if "$2" "$(free_port)"; then return 0; fi
        stop "$1" || true
    done
    show_logs
    fail "$1 does not start"
}

start_redis() {
    REDIS_PORT=$1
    # The settings that an operator should have: the outbox survives a crash, and is never evicted.
    printf '%s\n' "port $1" 'bind 127.0.0.1' "requirepass $REDISCLI_AUTH" "dir $SCRATCH/redis" 'save ""' \
        'appendonly yes' 'appendfsync everysec' 'maxmemory-policy noeviction' |
        (umask 077 && tee "$SCRATCH/redis.conf" >/dev/null)
    ((EUID)) || chown "$STORE_USER" "$SCRATCH/redis.conf"
    start redis TERM "${AS_STORE_USER[@]}" redis-server "$SCRATCH/redis.conf"
    # The password tells this server from any other one on the same port.
    wait_until "$STORE_SECONDS" answered_or_gone redis redis_answers && running redis
}

redis_answers() { [[ $(redis-cli -p "$REDIS_PORT" PING 2>/dev/null) == PONG ]]; }

create_cluster() {
    local bin password=$SCRATCH/postgres.password
    bin=$(postgres_bin)
    (umask 077 && printf '%s' "$PGPASSWORD" >"$password")
    ((EUID)) || chown "$STORE_USER" "$password"
    # The folder does not outlive the run, so nothing has to reach the disk. Some systems lack the locale that the caller uses.
    (cd / && "${AS_STORE_USER[@]}" "$bin/initdb" -D "$SCRATCH/postgres/data" -U demo --pwfile="$password" \
        --auth=scram-sha-256 -E UTF8 --locale=C --no-sync) >"$SCRATCH/initdb.log" 2>&1 || {
        show_logs
        fail "initdb failed"
    }
    rm -f "$password"
}

start_postgres() {
    PG_PORT=$1
    # SIGINT is PostgreSQL's fast stop: clients are sent away instead of waited for.
    start postgres INT "${AS_STORE_USER[@]}" "$(postgres_bin)/postgres" -D "$SCRATCH/postgres/data" -p "$1" \
        -c listen_addresses=127.0.0.1 -c "unix_socket_directories=$SCRATCH/postgres" -c fsync=off
    wait_until "$STORE_SECONDS" answered_or_gone postgres postgres_answers && running postgres || return 1
    psql -qX "postgres://demo@127.0.0.1:$PG_PORT/postgres" -c 'CREATE DATABASE demo' >/dev/null
}

postgres_answers() { psql -qX "postgres://demo@127.0.0.1:$PG_PORT/postgres" -c 'SELECT 1' >/dev/null 2>&1; }

# answered_or_gone NAME COMMAND: there is no use in waiting for the answer of a process that has ended.
answered_or_gone() { "$2" "$1" || not_running "$1"; }

# sql STATEMENT: the bare values.
sql() { psql -XAtq "postgres://demo@127.0.0.1:$PG_PORT/demo" -c "$1"; }

redis() { redis-cli -p "$REDIS_PORT" "$@"; }
