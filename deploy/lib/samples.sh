# Checks of the sample configurations, each by the program that will read it. Sourced after daemons.sh; BIN is the folder of the daemons.

DAEMONS=(view-ingest view-syncd)

# succeeds WHAT COMMAND…: the command's output is shown only when it fails.
succeeds() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        check "$what" ok ok
    else
        check "$what" ok "$output"
    fi
}

check_units() {
    headline 'systemd/'
    local units=$SCRATCH/units daemon
    mkdir "$units"
    cp systemd/*.service systemd/*.socket "$units"
    # The units name the place of an installation; here the programs are where they were built.
    sed -i "s,/usr/local/bin/,$BIN/," "$units"/*.service
    succeeds 'systemd-analyze verify' systemd-analyze verify "$units"/*
    for daemon in "${DAEMONS[@]}"; do
        succeeds "the exposure of $daemon.service is at most 2.0" \
            systemd-analyze security --no-pager --offline=true --threshold=20 "$units/$daemon.service"
        succeeds "$daemon.service has a bound of its memory" grep -qxE 'MemoryMax=[0-9]+[MG]' "$units/$daemon.service"
        succeeds "$daemon.service leaves no core files" grep -qx 'LimitCORE=0' "$units/$daemon.service"
    done
}

# knows PROGRAM VARIABLE: whether the program's help names this environment variable.
knows() { [[ $("$BIN/$1" --help) == *"[env: $2"[]=]* ]]; }

check_environment_files() {
    headline 'systemd/*.env'
    local daemon names name complaint
    for daemon in "${DAEMONS[@]}"; do
        # Settings that are named with their defaults have to exist as well.
        names=$(sed -n 's/^#\{0,1\}\([A-Z_]*\)=.*/\1/p' "systemd/$daemon.env")
        for name in $names; do
            succeeds "$daemon knows $name" knows "$daemon" "$name"
        done
        complaint=$(env -i "PATH=$PATH" bash -c 'set -a; . "$1"; exec "$2"' - "systemd/$daemon.env" "$BIN/$daemon" 2>&1 >/dev/null) || true
        check "$daemon.env as it comes starts nothing, for want of a secret" yes \
            "$([[ $complaint == *': 1 setting is wrong:'*'--jwt-secret: '* ]] && echo yes || echo "$complaint")"
        # All that is wrong is reported together, so beside one deliberate mistake nothing else may be complained of.
        complaint=$(env -i "PATH=$PATH" bash -c 'set -a; . "$1"; JWT_SECRET=$3; exec "$2" --view-ttl nonsense' - \
            "systemd/$daemon.env" "$BIN/$daemon" "$(openssl rand -base64 48)" \
            2>&1 >/dev/null | head -n 2 | tr '\n' ' ') || true
        check "the settings of $daemon.env" yes \
            "$([[ $complaint == *': 1 setting is wrong:   --view-ttl: '* ]] && echo yes || echo "$complaint")"
    done
}

check_compose() {
    headline 'deploy/docker-compose.yml, deploy/Dockerfile'
    local facts=$SCRATCH/compose kind first second
    if ! /usr/bin/env "PATH=/usr/bin:$PATH" python3 deploy/lib/read-compose.py deploy/docker-compose.yml >"$facts" 2>"$facts.log"; then
        check 'docker-compose.yml is YAML as compose reads it' ok "$(cat "$facts.log")"
        return
    fi
    while read -r kind first second; do
        case $kind in
        needs) succeeds "the service $first is there" grep -qx "service $first" "$facts" ;;
        image) check "$first is an exact version" yes "$([[ $first =~ :[0-9]+\.[0-9]+[.0-9]*(-[a-z]+)?$ ]] && echo yes)" ;;
        setting) succeeds "$first knows $second" knows "$first" "$second" ;;
        variable) succeeds ".env.example has $first" grep -q "^$first=" deploy/.env.example ;;
        file) succeeds "$first is there" test -f "$first" ;;
        esac
    done <"$facts"
    while read -r first; do
        check "$first is an exact version" yes "$([[ $first =~ :[0-9]+\.[0-9]+[.0-9]*(-[a-z]+)?$ ]] && echo yes)"
    done < <(sed -n 's/^FROM \([^ ]*\).*/\1/p' deploy/Dockerfile)
    check '.env.example leaves every secret to its reader' '' "$(grep -v '^#' deploy/.env.example | grep '=.' || true)"
    # What the image copies out of the repository has to be in it.
    while read -r first; do
        succeeds "$first is there" test -e "$first"
    done < <(sed -n 's/^COPY \([^-][^ ]*\) .*/\1/p' deploy/Dockerfile)
    # Compose itself, where it is installed, has the last word; it needs no Docker engine for this.
    if docker compose version >/dev/null 2>&1; then
        sed "s/=\$/=$(openssl rand -hex 24)/" deploy/.env.example >"$SCRATCH/compose.env"
        succeeds 'docker compose config' docker compose -f deploy/docker-compose.yml --env-file "$SCRATCH/compose.env" config --quiet
    fi
}

# What pg_dump says of a database's tables, without what it says of itself.
schema_of() {
    "$(postgres_bin)/pg_dump" --schema-only "postgres://demo@127.0.0.1:$PG_PORT/$1" | sed '/^--/d; /^\\\(un\)\{0,1\}restrict /d; /^$/d'
}

check_schema() {
    headline 'deploy/schema.sql'
    psql -qX "postgres://demo@127.0.0.1:$PG_PORT/demo" -c 'CREATE DATABASE by_hand'
    local by_hand=postgres://demo@127.0.0.1:$PG_PORT/by_hand
    succeeds 'the demo posts' psql -qX -v ON_ERROR_STOP=1 "$by_hand" -f deploy/demo/posts.sql
    succeeds 'schema.sql' psql -qX -v ON_ERROR_STOP=1 "$by_hand" -f deploy/schema.sql
    succeeds 'schema.sql a second time' psql -qX -v ON_ERROR_STOP=1 "$by_hand" -f deploy/schema.sql
    psql -qX -v ON_ERROR_STOP=1 "$DATABASE_URL" -f deploy/demo/posts.sql
    succeeds 'view-syncd migrate' "${DAEMON_ENV[@]}" "$BIN/view-syncd" migrate
    check 'schema.sql makes what `view-syncd migrate` makes' "$(schema_of demo)" "$(schema_of by_hand)"
}

# The daemons' role as compose makes it. The daemons that start after this have no other.
check_roles() {
    headline 'deploy/docker/roles.sql'
    local grant password
    while read -r grant; do
        succeeds "roles.sql has the documented ${grant%% ON *}" grep -qxF "$grant" deploy/docker/roles.sql
    done < <(sed -n '/^-- after it, for view-ingest and view-syncd$/,/^```$/{/^GRANT/p}' docs/adopt.md)
    check "roles.sql has no other grant than the documented ones" "$(grep -c '^GRANT .* TO views;$' docs/adopt.md)" "$(grep -c '^GRANT' deploy/docker/roles.sql)"
    for password in "$(openssl rand -hex 24)" "$(openssl rand -hex 24)"; do
        succeeds 'roles.sql' env "VIEWS_PASSWORD=$password" psql -qX -v ON_ERROR_STOP=1 "$DATABASE_URL" -f deploy/docker/roles.sql
    done
    check 'what else the role is' 'f|f|f|f|f' \
        "$(sql "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = 'views'")"
    DATABASE_URL=postgres://views:$password@127.0.0.1:$PG_PORT/demo
    check 'the role deletes nothing' yes \
        "$([[ $(psql -qX "$DATABASE_URL" -c 'DELETE FROM post_views' 2>&1) == *'permission denied'* ]] && echo yes)"
    daemon_environment "$SCRATCH/jwt-secret"
}

# HAProxy for real: two view-ingest servers and view-syncd behind it, and one of the servers goes away.
check_haproxy() {
    headline 'deploy/haproxy.cfg'
    succeeds 'haproxy -c' haproxy -c -f deploy/haproxy.cfg
    # What stands there for a proxy in front has to be right when it is needed.
    echo 192.0.2.0/24 >"$SCRATCH/cdn.lst"
    sed -e 's/^    #\(acl from_cdn\|http-request set-src\) /    \1 /' -e "s,/etc/haproxy/cdn.lst,$SCRATCH/cdn.lst," \
        -e 's/bind :8080/bind :::8080 v4v6/' deploy/haproxy.cfg >"$SCRATCH/haproxy-behind-cdn.cfg"
    check 'the lines for a proxy in front' 2 "$(grep -c '^    [^#]*from_cdn' "$SCRATCH/haproxy-behind-cdn.cfg")"
    succeeds 'haproxy -c behind a proxy' haproxy -c -f "$SCRATCH/haproxy-behind-cdn.cfg"
    start_ingest ingest1 --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0
    start_ingest ingest2 --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0
    start_daemon syncd "$BIN/view-syncd" --admin-listen 127.0.0.1:0
    try_ports haproxy start_haproxy
    local post=550e8400-e29b-41d4-a716-446655440000 viewer=b0000000-0000-4000-8000-000000000001 answer codes
    viewer=$(token "$SECRET" "$viewer")
    local admin
    admin=$(token "$SECRET" b0000000-0000-4000-8000-000000000002 ADMIN)

    answer=$(curl -sS "$PROXY/posts/view" -H "Authorization: Bearer $viewer" -H 'Content-Type: application/json' -d "{\"postId\":\"$post\"}")
    check 'a view through HAProxy' counted "$(json_field status "$answer")"
    answer=$(curl -sS -X POST "$PROXY/posts/sync-views" -H "Authorization: Bearer $admin")
    check 'a synchronization through HAProxy' 'Synchronization completed' "$(json_field message "$answer")"
    check 'view-syncd says itself that only POST will do' 405 "$(status_of "$PROXY/posts/sync-views")"
    check 'no metrics through HAProxy' 404 "$(status_of "$PROXY/metrics")"

    check_address_limits "$viewer" "$post"

    # Each request asks the next server in turn, so both are needed until HAProxy has noticed.
    kill -TERM "${PIDS[ingest1]}"
    codes=$(curl -sS --interface 127.0.0.2 -o /dev/null -w '%{http_code}\n' "$PROXY/posts/$post/views?[1-100]" | sort | uniq -c | xargs)
    check 'answers while one of two servers goes away' '100 200' "$codes"
    local status=0
    await_end ingest1 || status=$?
    check 'exit status of view-ingest' 0 "$status"
}

# check_address_limits TOKEN POST: an address that floods, from which somebody views as well, and its neighbours. Each part has an address of
# its own, all of which are this machine's (of IPv6 there is one).
check_address_limits() {
    local answer
    check 'anonymous requests of one address, up to the limit and past it' '200 429' "$(flood 127.0.0.3 "$2")"
    answer=$(curl -sS -i --interface 127.0.0.3 "$PROXY/posts/$2/views")
    check 'the refusal says when to try again' yes "$([[ $answer == *'HTTP/1.1 429 '*$'\nretry-after: 10\r'* ]] && echo yes || echo "$answer")"
    check "the refusal has the API's form" '{"statusCode":429,"message":"Слишком много запросов, повторите позже","error":"Too Many Requests"}' \
        "$(tail -n 1 <<<"$answer")"
    check 'a token is no way around for a read' 429 \
        "$(status_of --interface 127.0.0.3 -H "Authorization: Bearer $1" "$PROXY/posts/$2/views")"
    check 'a POST without a token is anonymous' 429 "$(status_of --interface 127.0.0.3 -X POST "$PROXY/posts/view")"
    answer=$(curl -sS --interface 127.0.0.3 "$PROXY/posts/view" -H "Authorization: Bearer $1" -H 'Content-Type: application/json' \
        -d "{\"postId\":\"$2\"}")
    check 'a view from an address that is past the limit' duplicate "$(json_field status "$answer")"
    check 'an anonymous request from another address' 200 "$(status_of --interface 127.0.0.4 "$PROXY/posts/$2/views")"
    check 'how many connections of one address stay' 200 "$(python3 -c "$CONNECT" 127.0.0.5 "${PROXY##*:}" 210)"
    if [[ $PROXY6 ]]; then
        check 'an address of IPv6 has the same limit' '200 429' "$(PROXY=$PROXY6 flood ::1 "$2")"
    fi
}

# flood ADDRESS POST: reads from an address of this machine, and which statuses came. Far more than the limit, so that the address is past it
# for some seconds more.
flood() {
    curl -sS --interface "$1" -o /dev/null -w '%{http_code}\n' "$PROXY/posts/$2/views?[1-2000]" | sort -u | xargs
}

# Opens connections from an address, and prints how many of them the other side has left open.
CONNECT='
import select, socket, sys
address, port, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
left = []
for _ in range(number):
    try:
        left.append(socket.create_connection(("127.0.0.1", port), 10, (address, 0)))
    except ConnectionResetError:
        pass
# Nobody has asked for anything, so whatever can be read is an end.
while ended := select.select(left, [], [], 1)[0]:
    left = [one for one in left if one not in ended]
print(len(left))
'

# The sample, with this run's addresses in place of the documented ones.
start_haproxy() {
    PROXY=http://127.0.0.1:$1
    # Where the machine has IPv6, the sample is tried with it.
    local bind=127.0.0.1:$1
    PROXY6=
    if [[ -s /proc/net/if_inet6 ]]; then
        PROXY6=http://[::1]:$1
        bind+=,[::1]:$1
    fi
    sed -e "s/bind :8080/bind $bind/" -e "s/127.0.0.1:3001/$(address_of ingest1 public)/" \
        -e "s/127.0.0.1:3011/$(address_of ingest2 public)/" -e "s/127.0.0.1:3002/$(address_of syncd admin)/" \
        deploy/haproxy.cfg >"$SCRATCH/haproxy.cfg"
    start haproxy TERM haproxy -db -f "$SCRATCH/haproxy.cfg"
    wait_until "$DAEMON_SECONDS" answered_or_gone haproxy haproxy_answers && running haproxy
}

haproxy_answers() { [[ $(status_of "$PROXY/posts/550e8400-e29b-41d4-a716-446655440000/views") == 200 ]]; }
