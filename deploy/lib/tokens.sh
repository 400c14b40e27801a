# JSON Web Tokens (HS256) made with openssl, as any login service would make them. Sourced.

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

# token SECRET SUB [ROLE]: a token that is good for a day. The secret shows up in the list of processes for a moment: it is one of this
# run, and opens nothing but the demonstration.
token() {
    local head claims
    head=$(printf '%s' '{"alg":"HS256","typ":"JWT"}' | base64url)
    claims=$(printf '{"sub":"%s","role":"%s","exp":%d}' "$2" "${3:-USER}" "$(($(date +%s) + 86400))" | base64url)
    printf '%s.%s.' "$head" "$claims"
    printf '%s' "$head.$claims" | openssl dgst -sha256 -hmac "$1" -binary | base64url
}
