# A temporary folder, and the processes that live in it: all of them end with the script, whichever way it ends. Sourced after say.sh.

# The folder of this run.
SCRATCH=
# The processes by name, in the order in which they were started.
STARTED=()
declare -A PIDS=() STOP_SIGNALS=()
# How long a process may take to stop before it is killed. It has to fit view-syncd's final flush.
STOP_SECONDS=70

# open_scratch PREFIX: makes the folder and sees to its removal.
open_scratch() {
    local parent=${TMPDIR:-/tmp}
    # The stores do not run as root, and another user cannot be sure to reach root's own temporary folder.
    ((EUID)) || parent=/tmp
    SCRATCH=$(mktemp -d "$parent/$1.XXXXXX")
    # Others may pass through to what belongs to them, but not look around.
    chmod 711 "$SCRATCH"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    trap 'exit 141' PIPE
}

# start NAME SIGNAL COMMAND…: starts a process whose output goes to a log of its name. SIGNAL asks it to stop.
start() {
    local name=$1
    STOP_SIGNALS[$name]=$2
    shift 2
    # A session of its own keeps the terminal's Ctrl-C from it: stopping is this script's business, one process after another.
    setsid "$@" >>"$SCRATCH/$name.log" 2>&1 </dev/null &
    PIDS[$name]=$!
    STARTED+=("$name")
}

running() { [[ -n ${PIDS[$1]:-} ]] && kill -0 "${PIDS[$1]}" 2>/dev/null; }

not_running() { ! running "$1"; }

# stop NAME: asks the process to stop, waits, and answers with its exit status.
stop() {
    [[ -n ${PIDS[$1]:-} ]] || return 0
    kill -s "${STOP_SIGNALS[$1]}" "${PIDS[$1]}" 2>/dev/null || true
    await_end "$1"
}

# await_end NAME: waits for a process that has been asked already (a second signal would cut its work short).
await_end() {
    local name=$1 pid=${PIDS[$1]} status=0
    if ! wait_until "$STOP_SECONDS" not_running "$name"; then
        printf '%s does not stop and is killed\n' "$name" >&2
        kill -s KILL "$pid" 2>/dev/null || true
    fi
    wait "$pid" 2>/dev/null || status=$?
    unset "PIDS[$name]"
    return "$status"
}

# wait_until SECONDS COMMAND…: asks again and again until the command succeeds, and fails past the deadline.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# show_logs: the ends of all logs, for whoever has to find out what went wrong.
show_logs() {
    local log
    for log in "$SCRATCH"/*.log; do
        [[ -s $log ]] || continue
        printf -- '--- the end of %s\n' "${log##*/}" >&2
        tail -n 30 "$log" >&2
    done
}

# Stops everything in the opposite order, so that no daemon loses its stores before it has flushed into them, and removes the folder.
clean_up() {
    local status=$? place
    # A second Ctrl-C must not leave anything behind, and neither must an output that nobody reads any more.
    trap '' INT TERM HUP PIPE
    set +e
    for ((place = ${#STARTED[@]} - 1; place >= 0; place--)); do
        stop "${STARTED[place]}"
    done
    rm -rf "$SCRATCH"
    exit "$status"
}
