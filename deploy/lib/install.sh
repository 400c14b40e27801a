# What the starters share: messages, the installation of what is missing (on Debian and Ubuntu; elsewhere it is named), and the place of
# what is built. Sourced.

say() { printf '%s\n' "$*"; }

# A headline, so that a long log can be skimmed.
headline() { printf '\n==> %s\n' "$*"; }

# Says why the script cannot go on, and ends it.
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Prints the folder that cargo builds into.
target_folder() { cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'; }

# build [OPTION…]: a debug build, which is also the stricter one: a number that overflows ends it. All of the workspace at once, like the
# tests: another choice of packages would give the dependencies other features, and build those once more.
build() {
    headline 'Building (a few minutes the first time)'
    cargo build --locked --workspace "$@"
}

# Servers lie in sbin on Debian, which is not in every user's PATH; rustup's folder is missing from shells that it was not told of.
PATH=$PATH:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin

# Debian packages that have to be installed.
MISSING=()

# need PROGRAM PACKAGE…: notes the packages, unless the program is there (one that bash has built in does not count).
need() {
    local command=$1
    shift
    type -P "$command" >/dev/null || MISSING+=("$@")
}

# Prints the folder with PostgreSQL's server programs, which Debian keeps out of PATH: the newest where there are several.
postgres_bin() {
    local program
    program=$(type -P postgres) || program=$(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort -V | tail -n 1)
    # What lies in PATH may be a link to a program whose companions do not.
    [[ -n $program ]] && program=$(readlink -f "$program") && printf '%s\n' "${program%/*}"
}

# The stores, their clients, curl, and the C compiler that links Rust programs.
need_stores_and_tools() {
    need redis-server redis-server
    need redis-cli redis-tools
    postgres_bin >/dev/null || MISSING+=(postgresql)
    need psql postgresql-client
    need curl curl ca-certificates
    need cc gcc libc6-dev
}

# The programs that read the sample configurations, and what the units call.
need_checkers() {
    need haproxy haproxy
    need nginx nginx
    need systemd-analyze systemd
    need kill procps
    python3_with_yaml || MISSING+=(python3-yaml)
}

# What runs the alerts against the daemons, and checks what they export. promtool comes with it.
need_prometheus() { need prometheus prometheus; }

# The browser, what drives it, and what runs the tests of the module for pages. A Chrome that is there will do: Ubuntu has Chromium as a snap
# only.
need_browser() {
    type -P google-chrome >/dev/null || type -P chromium-browser >/dev/null || need chromium chromium
    need chromedriver chromium-driver
    need node nodejs
}

# Debian's own Python is asked, whichever other one comes first in PATH: it is the one that Debian's packages are for.
python3_with_yaml() { /usr/bin/python3 -c 'import yaml' 2>/dev/null || python3 -c 'import yaml' 2>/dev/null; }

# Rust comes from its own installer, and in the version that the user wants: it is named and not installed.
need_rust() {
    local version
    version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    command -v cargo >/dev/null || fail "Rust is missing: install it, $version or later, with rustup, and run this again."
}

# become_root WHY: sets AS_ROOT to the words before a command that root has to run.
become_root() {
    AS_ROOT=()
    ((EUID)) || return 0
    command -v sudo >/dev/null || fail "$1. Run it as root."
    # Without a terminal nobody could type a password.
    AS_ROOT=(sudo)
    [[ -t 0 ]] || AS_ROOT=(sudo -n)
    "${AS_ROOT[@]}" true || fail "$1. Run it as root."
}

# Installs what was noted. The services are not started: private ones are, on other ports, and only for as long as a script runs.
install_missing() {
    ((${#MISSING[@]})) || return 0
    command -v apt-get >/dev/null ||
        fail "these are missing (by their names on Debian): ${MISSING[*]}. Install them and run this again."
    become_root "these packages are missing: ${MISSING[*]}"
    headline "Installing ${MISSING[*]}"
    apt_install "${AS_ROOT[@]}"
    hash -r
}

# apt_install [SUDO…]: in a subshell, so that its own clean-up cannot be forgotten or mixed up with the script's.
apt_install() (
    # The clean-up may run inside of any function, whose arguments are other ones.
    root=("$@")
    policy=/usr/sbin/policy-rc.d
    clusters=/etc/postgresql-common/createcluster.d
    log=$(mktemp)
    made=()
    tidy() {
        trap '' INT TERM HUP
        ((${#made[@]} == 0)) || "${root[@]}" rm -rf "${made[@]}"
        rm -f "$log"
    }
    trap tidy EXIT
    trap 'exit 130' INT TERM HUP

    # Packages start their services as soon as they are installed, unless this script of Debian's says no.
    if [[ ! -e $policy ]]; then
        made+=("$policy")
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
        "${root[@]}" chmod 755 "$policy"
    fi
    # A cluster of the system's own would start with the next boot, and nobody asked for one.
    if [[ " ${MISSING[*]} " == *' postgresql '* && ! -e $clusters ]]; then
        made+=("$clusters")
        "${root[@]}" mkdir -p "$clusters"
        echo 'create_main_cluster = false' | "${root[@]}" tee "$clusters/view-counter.conf" >/dev/null
    fi

    # Another package manager may be at work, as it often is on a machine that has just booted.
    apt=(env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
        apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
    if ! { "${root[@]}" "${apt[@]}" update && "${root[@]}" "${apt[@]}" install -y --no-install-recommends "${MISSING[@]}"; } \
        >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        fail "the packages could not be installed: ${MISSING[*]}"
    fi
    # It would serve a page of its own from the next boot on.
    [[ " ${MISSING[*]} " != *' nginx '* ]] || "${root[@]}" systemctl --quiet disable nginx >"$log" 2>&1 || true
)
