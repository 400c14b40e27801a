# What scripts use of PyPI and npm: downloaded once, into a folder beside what is built. Sourced after install.sh.

# The version that a script asks for is exact: a later one may check more or do something else, and that should be seen when it is chosen
# and not when somebody else has published it.

need_python_with_venv() { python_with_venv >/dev/null || MISSING+=(python3-venv); }

# Debian keeps the part of Python that makes environments in a package of its own; another Python may come first in PATH and have it.
python_with_venv() {
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            echo "$python"
            return
        fi
    done
    return 1
}

# from_pypi FOLDER PACKAGE [OPTION…]: an environment of Python with the package; the options are pip's.
from_pypi() {
    "$1/bin/python" -c '' 2>/dev/null && [[ -e $1/is-complete ]] && return
    download "$1" "$2" in_environment "$@"
}

in_environment() {
    "$(python_with_venv)" -m venv "$1" && "$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}"
}

# from_npm FOLDER PACKAGE: the package is in node_modules there.
from_npm() {
    [[ -e $1/is-complete ]] && return
    download "$1" "$2" npm install --silent --no-audit --no-fund --no-save --prefix "$1" "$2"
}

# download FOLDER PACKAGE COMMAND…: has a command fill the folder.
download() {
    headline "Installing $2"
    rm -rf "$1"
    mkdir -p "$1"
    if ! "${@:3}" >"$1.log" 2>&1 </dev/null; then
        cat "$1.log" >&2
        fail "$2 could not be installed"
    fi
    touch "$1/is-complete"
}
