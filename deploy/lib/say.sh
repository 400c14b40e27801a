# Messages and checks. Sourced.

# How many checks held, and how many did not.
CHECKS_PASSED=0
CHECKS_FAILED=0

say() { printf '%s\n' "$*"; }

# A headline, so that a long log can be skimmed.
headline() { printf '\n==> %s\n' "$*"; }

# Says why the script cannot go on, and ends it.
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# check WHAT EXPECTED FOUND: compares, and counts. The script goes on, so that one run names everything that is wrong.
check() {
    if [[ "$2" == "$3" ]]; then
        CHECKS_PASSED=$((CHECKS_PASSED + 1))
    else
        CHECKS_FAILED=$((CHECKS_FAILED + 1))
        printf 'WRONG: %s: expected "%s", found "%s"\n' "$1" "$2" "$3" >&2
    fi
}

# json_field NAME JSON: the first string or number of that name. The answers are compact JSON, so no parser has to be installed for them.
json_field() {
    local rest=${2#*\""$1"\":}
    [[ "$rest" != "$2" ]] || return 0
    rest=${rest%%[,\}]*}
    rest=${rest#\"}
    printf '%s' "${rest%\"}"
}
