# shellcheck shell=bash
# What a thousand anonymous requests cost, for deploy/hostile: queries, bytes of Redis and log lines, each within a bound.

# Posts that exist, each with viewers in the ledger, and how many ids a request names.
COST_POSTS=1000
COST_VIEWERS=100
COST_IDS=100
# Bounds. A look-up is for up to 64 posts, and both daemons ask PostgreSQL a few things each second.
COST_QUERIES=200
COST_BYTES_PER_POST=2048
COST_LOG_LINES=10

# cost_urls: 500 requests for posts that exist, and 500 for the same hundred that do not.
cost_urls() {
    local request ids first
    for ((request = 0; request < 500; request++)); do
        first=$((request * COST_IDS % COST_POSTS))
        printf -v ids 'cost-%d,' $(seq "$first" $((first + COST_IDS - 1)))
        printf 'url = "http://%s/posts/views?ids=%s"\noutput = /dev/null\n' "$1" "${ids%,}"
        printf -v ids 'made-up-%d,' $(seq "$COST_IDS")
        printf 'url = "http://%s/posts/views?ids=%s"\noutput = /dev/null\n' "$1" "${ids%,}"
    done
}

cost_create_posts() {
    sql "INSERT INTO posts (id, author_id, views_count)
        SELECT 'cost-' || n, 'somebody-else', $COST_VIEWERS FROM generate_series(0, $COST_POSTS - 1) n"
    sql "INSERT INTO post_views (post_id, user_id)
        SELECT 'cost-' || n, 'viewer-' || v FROM generate_series(0, $COST_POSTS - 1) n, generate_series(1, $COST_VIEWERS) v"
}

used_memory() { redis INFO memory | sed -n 's/^used_memory:\([0-9]*\).*/\1/p'; }
queries() { sql "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"; }
log_lines() { cat "$SCRATCH/ingest.log" "$SCRATCH/syncd.log" | wc -l; }
within() { if (($1 <= $2)); then echo "within $2"; else echo "$1, which is more than $2"; fi; }

# measure_cost NAME: sends them to a view-ingest and looks what that has cost. The queries are looked at by check_queries.
measure_cost() {
    local before_memory before_lines
    cost_create_posts
    cost_urls "$(address_of "$1" public)" >"$SCRATCH/cost.urls"
    before_memory=$(used_memory) before_lines=$(log_lines) QUERIES_BEFORE=$(queries)
    check 'a thousand anonymous requests are answered' 0 \
        "$(curl -sS --fail --config "$SCRATCH/cost.urls" >/dev/null 2>"$SCRATCH/cost.log"; echo $?)"
    check 'bytes of Redis for each post that exists' "within $COST_BYTES_PER_POST" \
        "$(within $((($(used_memory) - before_memory) / COST_POSTS)) "$COST_BYTES_PER_POST")"
    check 'log lines that they cause' "within $COST_LOG_LINES" "$(within $(($(log_lines) - before_lines)) "$COST_LOG_LINES")"
    check 'keys of posts that do not exist' 0 "$(redis --scan --pattern '*made-up*' | wc -l)"
    check 'viewers that reads have brought' 0 "$(redis --scan --pattern 'post:cost-*' | wc -l)"
}

nobody_is_connected() { [[ $(sql "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") == 1 ]]; }

# check_queries SECONDS: when the daemons have ended, for PostgreSQL adds a session's numbers up at its end.
check_queries() {
    wait_until "$1" nobody_is_connected || check 'sessions of PostgreSQL that are left' 0 some
    check 'queries that they cause' "within $COST_QUERIES" "$(within $(($(queries) - QUERIES_BEFORE)) "$COST_QUERIES")"
}
