# One view's journey: each step is shown as the command that repeats it by hand, with its real output, and then checked.
# Sourced after daemons.sh.

POST=550e8400-e29b-41d4-a716-446655440000
SECOND=550e8400-e29b-41d4-a716-446655440001
THIRD=550e8400-e29b-41d4-a716-446655440002
NOBODYS=550e8400-e29b-41d4-a716-44665544ffff
AUTHOR_ID=a0000000-0000-4000-8000-000000000001
VIEWER_ID=b0000000-0000-4000-8000-000000000001
FRIEND_ID=b0000000-0000-4000-8000-000000000002
ADMIN_ID=c0000000-0000-4000-8000-000000000001

# How long a change may take to arrive in PostgreSQL.
DRAIN_SECONDS=30

# What the last step printed.
OUT=

# step TEXT COMMAND: says what happens, shows the command, runs that very text, and shows what it prints.
step() {
    say
    say "# $1"
    say "\$ $2"
    OUT=$(eval "$2" 2>&1) || OUT+=" (exit status $?)"
    [[ -z $OUT ]] || say "$OUT"
}

# The database, the tokens, and view-ingest; view-syncd follows when there is something for it to do.
prepare_journey() {
    local secret exports=$SCRATCH/exports
    psql -qX -v ON_ERROR_STOP=1 "$DATABASE_URL" -f deploy/demo/posts.sql
    secret=$(openssl rand -hex 32)
    (umask 077 && printf '%s' "$secret" >"$SCRATCH/jwt-secret")
    daemon_environment "$SCRATCH/jwt-secret"
    export VIEWER FRIEND AUTHOR ADMIN
    VIEWER=$(token "$secret" "$VIEWER_ID")
    FRIEND=$(token "$secret" "$FRIEND_ID")
    AUTHOR=$(token "$secret" "$AUTHOR_ID")
    ADMIN=$(token "$secret" "$ADMIN_ID" ADMIN)

    headline 'Creating the ledger (view-syncd migrate)'
    "${DAEMON_ENV[@]}" "$BIN/view-syncd" migrate || fail 'view-syncd migrate failed'

    headline 'Starting view-ingest'
    # An unattended run must not depend on what else runs here, nor get into its way.
    local public=127.0.0.1:0 admin=127.0.0.1:0
    if [[ -z $ONCE ]]; then
        public=$(documented_or_free 3001)
        admin=$(documented_or_free 3003)
    fi
    start_ingest ingest --listen "$public" --admin-listen "$admin"
    INGEST=http://$(address_of ingest public)
    INGEST_ADMIN=http://$(address_of ingest admin)
    say "$INGEST takes views, $INGEST_ADMIN is for operators"

    (umask 077 && printf 'export %s=%q\n' VIEWER "$VIEWER" FRIEND "$FRIEND" AUTHOR "$AUTHOR" ADMIN "$ADMIN" \
        REDISCLI_AUTH "$REDISCLI_AUTH" PGPASSWORD "$PGPASSWORD" >"$exports")
    headline 'Tokens to play with; in another terminal, these lines let you repeat every command below'
    cat "$exports"
}

# start_syncd ADDRESS LINGER INTERVAL
start_syncd() {
    say
    say '# view-syncd begins: it moves the outbox into PostgreSQL, and scans Redis at every interval'
    say "\$ view-syncd --linger $2 --interval $3"
    start_daemon syncd "$BIN/view-syncd" --admin-listen "$1" --linger "$2" --interval "$3"
    SYNCD=http://$(address_of syncd admin)
    wait_until "$DRAIN_SECONDS" cycles_are 1 || check 'the cycle at the start of view-syncd' 1 "$(cycles)"
    grep -hE 'Starting views sync|posts with views|Sync completed' "$SCRATCH/syncd.log" || true
}

# How many cycles view-syncd has completed since it was started.
cycles() { grep -c 'Sync completed' "$SCRATCH/syncd.log" || true; }

cycles_are() { (($(cycles) >= $1)); }

outbox_is_empty() { [[ $(redis XLEN views:outbox) == 0 ]]; }

# ledger_has POST NUMBER
ledger_has() { [[ $(sql "SELECT count(*) FROM post_views WHERE post_id = '$1'") == "$2" ]]; }

count_of() { sql "SELECT views_count FROM posts WHERE id = '$1'"; }

live_count_of() { json_field viewsCount "$(curl -sS "$INGEST/posts/$1/views")"; }

# check_answer WHAT STATUS COUNT: what view-ingest answered in the last step.
check_answer() {
    check "$1: status" "$2" "$(json_field status "$OUT")"
    check "$1: viewsCount" "$3" "$(json_field viewsCount "$OUT")"
}

# meta FIELD: of the post's hash. A count that has not begun is missing, and means none.
meta() {
    local value
    value=$(redis HGET "{post:$POST:views}:meta" "$1")
    printf '%s' "${value:-0}"
}

follow_one_view() {
    local as="-H \"Authorization: Bearer \$" json="-H 'Content-Type: application/json'"
    local psql="psql postgres://demo@127.0.0.1:$PG_PORT/demo -c"
    local cli="redis-cli -p $REDIS_PORT" body="-d '{\"postId\":\"$POST\"}'"
    view_the_post
    look_into_redis
    drain_into_postgresql
    add_by_hand
    view_many
    ask_for_a_sync
    forget_everything
    step 'What operators see' "curl -s $INGEST_ADMIN/metrics | grep '^view_ingest_views_total'"
    check 'metrics: counted views' 'view_ingest_views_total{status="counted"} 3' "$(grep counted <<<"$OUT" || true)"
    check 'no metrics on the public listener' 404 "$(status_of "$INGEST/metrics")"
}

view_the_post() {
    headline 'A view arrives'
    step 'A viewer sees a post that had 41 views' "curl -s $INGEST/posts/view ${as}VIEWER\" $json $body"
    check_answer 'a first view' counted 42
    step 'The same viewer again' "curl -s $INGEST/posts/view ${as}VIEWER\" $json $body"
    check_answer 'a second view' duplicate 42
    step 'The author looks at the post' "curl -s $INGEST/posts/view ${as}AUTHOR\" $json $body"
    check_answer "the author's view" own 42
    step 'Without a token' "curl -s $INGEST/posts/view $json $body"
    check 'a view without a token' 401 "$(json_field statusCode "$OUT")"
}

look_into_redis() {
    headline 'Where it is now: in Redis, and not yet in PostgreSQL'
    step 'Who viewed the post in the last 24 hours' "$cli SMEMBERS post:$POST:views"
    check 'the set of viewers' "$VIEWER_ID" "$OUT"
    step 'Its counts: the live count is persisted + recorded - acked' "$cli HGETALL {post:$POST:views}:meta"
    check 'meta: author' "$AUTHOR_ID" "$(meta author)"
    check 'meta: persisted, recorded, acked' '41 1 0' "$(meta persisted) $(meta recorded) $(meta acked)"
    local ttl
    ttl=$(redis TTL "post:$POST:views")
    check 'the set expires after a day' yes "$( ((ttl > 86000 && ttl <= 86400)) && echo yes || echo "in $ttl s")"
    step 'The outbox: what PostgreSQL has yet to learn' "$cli XRANGE views:outbox - +"
    check 'entries in the outbox' 1 "$(redis XLEN views:outbox)"
    check 'rows in the ledger' 0 "$(sql 'SELECT count(*) FROM post_views')"
}

drain_into_postgresql() {
    headline 'On to PostgreSQL'
    # The checks count cycles, so the interval's own must not come in between.
    local address=127.0.0.1:0 interval=1h
    if [[ -z $ONCE ]]; then
        address=$(documented_or_free 3002)
        interval=10s
    fi
    start_syncd "$address" 1s "$interval"
    wait_until "$DRAIN_SECONDS" outbox_is_empty || check 'the outbox empties' 0 "$(redis XLEN views:outbox)"
    step 'The ledger knows the viewer for ever' "$psql 'SELECT * FROM post_views'"
    check 'the ledger' "$POST|$VIEWER_ID" "$(sql 'SELECT post_id, user_id FROM post_views')"
    step 'The post has its new count' "$psql 'SELECT id, title, views_count FROM posts ORDER BY id'"
    check 'posts.views_count' 42 "$(count_of "$POST")"
    step 'Redis knows that PostgreSQL knows' "$cli HGETALL {post:$POST:views}:meta"
    check 'meta after the drain: persisted, recorded, acked' '42 1 1' "$(meta persisted) $(meta recorded) $(meta acked)"
    check 'the live count after the drain' 42 "$(live_count_of "$POST")"
}

add_by_hand() {
    headline 'Somebody else writes to Redis'
    step 'An older service adds a viewer to the set, and to nothing else' "$cli SADD post:$POST:views $FRIEND_ID"
    step 'SIGHUP: view-syncd looks at once' "kill -HUP ${PIDS[syncd]}"
    wait_until "$DRAIN_SECONDS" ledger_has "$POST" 2 || true
    wait_until "$DRAIN_SECONDS" cycles_are 2 || check 'cycles after SIGHUP' 2 "$(cycles)"
    step 'It has found the viewer' "$psql \"SELECT user_id FROM post_views WHERE post_id = '$POST' ORDER BY user_id\""
    check 'rows in the ledger after SIGHUP' 2 "$(sql "SELECT count(*) FROM post_views WHERE post_id = '$POST'")"
    check 'posts.views_count after SIGHUP' 43 "$(count_of "$POST")"
    step 'Anyone may read the count' "curl -s $INGEST/posts/$POST/views"
    check 'the live count after SIGHUP' 43 "$(json_field viewsCount "$OUT")"
}

view_many() {
    headline 'Many posts in one request'
    step 'A batch: one post known already, two new ones, and one that does not exist' \
        "curl -s $INGEST/posts/views-batch ${as}VIEWER\" $json -d '{\"postIds\":[\"$POST\",\"$SECOND\",\"$THIRD\",\"$NOBODYS\"]}'"
    check 'a batch: processedCount' 2 "$(json_field processedCount "$OUT")"
    local verdicts
    verdicts=$(grep -o '"status":"[a-z_]*"' <<<"$OUT" | cut -d '"' -f 4 | tr '\n' ' ')
    check 'a batch: verdicts' 'duplicate counted counted not_found ' "$verdicts"
    step 'And their counts in one request' "curl -s '$INGEST/posts/views?ids=$POST,$SECOND,$THIRD'"
    check 'counts of many' '43 1 1' "$(json_field "$POST" "$OUT") $(json_field "$SECOND" "$OUT") $(json_field "$THIRD" "$OUT")"
}

ask_for_a_sync() {
    headline 'An administrator asks for a synchronization'
    step 'Nobody else may' "curl -s -X POST $SYNCD/posts/sync-views ${as}VIEWER\""
    check "a viewer's request for a sync" 403 "$(json_field statusCode "$OUT")"
    step 'The administrator may, and has the answer when it is done' "curl -s -X POST $SYNCD/posts/sync-views ${as}ADMIN\""
    check 'the answer to a sync' 'Synchronization completed' "$(json_field message "$OUT")"
    check 'posts that a sync found' 3 "$(json_field syncedPosts "$OUT")"
    check 'counts in PostgreSQL after the sync' '43 1 1' "$(count_of "$POST") $(count_of "$SECOND") $(count_of "$THIRD")"
    check 'the outbox after the sync' 0 "$(redis XLEN views:outbox)"
}

forget_everything() {
    headline 'Redis loses everything'
    step 'Every key is deleted' "$cli FLUSHALL"
    step 'The viewer comes back, and is known' "curl -s $INGEST/posts/view ${as}VIEWER\" $json $body"
    check_answer 'a view after FLUSHALL' duplicate 43
    check 'posts.views_count after FLUSHALL' 43 "$(count_of "$POST")"
}

# SIGTERM: with a long linger nothing but the final flush can move what is in the outbox.
stop_and_look() {
    headline 'Stopping'
    local status=0
    stop syncd || status=$?
    check 'exit status of view-syncd' 0 "$status"
    start_syncd 127.0.0.1:0 1h 1h
    step 'One more view, while view-syncd waits for an hour to gather more' \
        "curl -s $INGEST/posts/view -H \"Authorization: Bearer \$FRIEND\" -H 'Content-Type: application/json' -d '{\"postId\":\"$SECOND\"}'"
    check_answer 'the last view' counted 2
    check 'entries in the outbox before SIGTERM' 1 "$(redis XLEN views:outbox)"
    check 'the health check of the container image' ok \
        "$(deploy/docker/healthcheck "${SYNCD#http://127.0.0.1:}" && echo ok || echo failed)"
    step 'SIGTERM: view-syncd flushes before it goes' "kill -TERM ${PIDS[syncd]}"
    status=0
    await_end syncd || status=$?
    check 'exit status of view-syncd after a flush' 0 "$status"
    check 'the outbox after SIGTERM' 0 "$(redis XLEN views:outbox)"
    check 'the ledger after SIGTERM' 2 "$(sql "SELECT count(*) FROM post_views WHERE post_id = '$SECOND'")"
    check 'posts.views_count after SIGTERM' 2 "$(count_of "$SECOND")"
    check 'the live count after SIGTERM' 2 "$(live_count_of "$SECOND")"
    status=0
    stop ingest || status=$?
    check 'exit status of view-ingest' 0 "$status"
}

invite_to_play() {
    headline 'Everything stays up until Ctrl-C'
    say "logs                    tail -f $SCRATCH/ingest.log $SCRATCH/syncd.log"
    say "the lines with tokens   . $SCRATCH/exports"
    say "counts as they change   redis-cli -p $REDIS_PORT SUBSCRIBE views:updates"
    say "operators' listeners    $INGEST_ADMIN/metrics $SYNCD/metrics"
}
