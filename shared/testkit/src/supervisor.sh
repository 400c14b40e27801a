# Owns one temporary folder and at most one server, for one test process. Started by supervisor.rs.
#
# $1       the folder's name, with XXXXXX in it for mktemp
# stdin    shell lines to evaluate; a line that starts the server sets `pid`
# stdout   first the folder; then, for every line, its exit status and the server's pid
#
# The end of stdin means that the test process is gone, whichever way it went: a pipe closes even on SIGKILL.

# Neither Ctrl-C, nor a closed terminal, nor a vanished reader may keep the clean-up from happening.
trap '' HUP INT TERM PIPE

folder=$(mktemp -d "$1") || exit 1
exec 2>>"$folder/log"
pid=
# Not empty while `pid` is a command that ends soon by itself and would leave something behind if it were killed.
patience=

# Prints a process and all its descendants. The arguments of `for` are expanded before the recursion changes `child`.
tree() {
    echo "$1"
    for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do tree "$child"; done
}

# Sends a signal to the server and all its descendants, which a frozen parent cannot add to meanwhile.
signal_all() {
    [ -n "$pid" ] || return 0
    kill -s STOP "$pid"
    kill -s "$1" $(tree "$pid")
}

# Waits for the server's end and answers with its exit status.
reap() {
    wait "$pid"
    set -- $?
    pid=
    patience=
    return "$1"
}

echo "$folder"
while IFS= read -r line; do
    eval "$line"
    echo "$? $pid"
done

[ -n "$patience" ] || signal_all KILL
[ -n "$pid" ] && wait "$pid"
# A killed PostgreSQL leaves its System V segment, named in the seventh line of its lock file, to the next start.
if [ -f "$folder/data/postmaster.pid" ]; then
    set -- $(sed -n 7p "$folder/data/postmaster.pid")
    [ -n "$2" ] && ipcrm -m "$2"
fi
# A dying process may still create a file while the folder is being removed.
for attempt in 1 2 3 4 5; do
    rm -rf "$folder" && break
    sleep 0.2
done
