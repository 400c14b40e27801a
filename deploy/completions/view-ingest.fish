complete -c view-ingest -l listen -d 'Where to listen for views, unless systemd hands a socket over' -r
complete -c view-ingest -l admin-listen -d 'Where operators find /livez, /readyz and /metrics' -r
complete -c view-ingest -l max-batch -d 'How many posts a batch may name' -r
complete -c view-ingest -l max-connections -d 'How many connections are served at once' -r
complete -c view-ingest -l max-queue -d 'How many requests may wait for Redis, per worker; the next one gets a 503' -r
complete -c view-ingest -l max-unseen-posts -d 'How many posts that could not be looked up are accepted while PostgreSQL is away; views of others get a 503' -r
complete -c view-ingest -l viewer-rate -d 'How many views one account may send in a time, such as 60/1m; past them, 429 with Retry-After [default: no limit]' -r
complete -c view-ingest -l workers -d 'How many threads serve requests [default: half the number of processors]' -r
complete -c view-ingest -l reads-require-token -d 'Whether reading a count takes a token, too' -r
complete -c view-ingest -l header-timeout -d 'How long a client may take to send a request\'s whole head' -r
complete -c view-ingest -l body-timeout -d 'How long a client may take to send a request\'s whole body' -r
complete -c view-ingest -l idle-timeout -d 'How long a connection may stay open between two requests; longer than the load balancer\'s own time' -r
complete -c view-ingest -l write-timeout -d 'How long a client may take to receive a whole answer' -r
complete -c view-ingest -l shutdown-delay -d 'How long to go on as before after SIGTERM, with /readyz at 503, until the load balancer has noticed' -r
complete -c view-ingest -l shutdown-timeout -d 'How long requests in flight may take to finish after that' -r
complete -c view-ingest -l cors-origin -d 'An origin whose pages may call view-ingest, such as `https://site.example`, or `*`; repeatable, or with commas [default: none]' -r
complete -c view-ingest -l jwt-cookie -d 'A cookie with the token, for requests without Authorization [default: none]' -r
complete -c view-ingest -l path-prefix -d 'A path that stands before those of all routes, such as /api [default: none]' -r
complete -c view-ingest -l jwt-secret -d 'The secret of HS256 tokens; better through the environment or a file' -r
complete -c view-ingest -l jwt-secret-file -d 'A file with the secret of HS256 tokens' -r
complete -c view-ingest -l jwt-secret-encoding -d 'How the secret is given: `text`, or `base64`, which Spring\'s and other issuers decode before they sign' -r
complete -c view-ingest -l jwt-allow-weak-secret -d 'Accept a secret that can be guessed, which an application signs with already, with a warning' -r
complete -c view-ingest -l jwt-public-key-file -d 'A PEM file with the public keys of RS256, ES256 or EdDSA tokens, any number of them' -r
complete -c view-ingest -l jwt-jwks-file -d 'A file with a JSON Web Key Set (JWKS) of public keys' -r
complete -c view-ingest -l jwt-jwks-url -d 'The https URL of a JSON Web Key Set, as issuers publish it (`…/.well-known/jwks.json`)' -r
complete -c view-ingest -l jwt-algorithms -d 'More algorithms of the key\'s own family that are accepted, such as `HS512`, or `RS512,PS256` [default: none]' -r
complete -c view-ingest -l jwt-issuer -d 'Accept only tokens of this issuer (claim `iss`) [default: any]' -r
complete -c view-ingest -l jwt-audience -d 'Accept only tokens for this audience (claim `aud`) [default: any]' -r
complete -c view-ingest -l jwt-leeway -d 'How far the clocks of the tokens\' issuer and of this machine may differ' -r
complete -c view-ingest -l jwt-viewer-claim -d 'The claim with the viewer\'s id: a name, or names with dots between them, such as `user.id`' -r
complete -c view-ingest -l jwt-admin-claim -d 'The claim that makes an administrator, and its value; repeatable, or with commas between them' -r
complete -c view-ingest -l admin-ids -d 'The ids of administrators, with commas between them, for issuers whose tokens have no roles [default: none]' -r
complete -c view-ingest -l redis-url -d 'redis://, rediss:// (TLS), redis-sentinel:// or redis-cluster://, with user, password and database [default: redis://localhost:6379/0]' -r
complete -c view-ingest -l redis-uri -d 'Another name of that URL' -r
complete -c view-ingest -l redis-url-file -d 'A file with that URL, where its password should not stand in the environment' -r
complete -c view-ingest -l redis-host -d 'The host, where no URL is given' -r
complete -c view-ingest -l redis-port -d 'The port, where no URL is given' -r
complete -c view-ingest -l redis-password -d 'The password, where no URL is given; better through the environment' -r
complete -c view-ingest -l redis-db -d 'The database\'s number, where no URL is given' -r
complete -c view-ingest -l redis-prefix -d 'What every key and channel begins with, where several installations share one database of Redis [default: empty]' -r
complete -c view-ingest -l view-ttl -d 'How long Redis keeps a post that nobody views' -r
complete -c view-ingest -l allow-eviction -d 'Put up with a Redis that may evict views that are not in PostgreSQL yet (maxmemory-policy allkeys-*)' -r
complete -c view-ingest -l database-url -d 'postgres://user:password@host:5432/name, with sslmode=disable, prefer, require, verify-ca or verify-full' -r
complete -c view-ingest -l database-url-file -d 'A file with that URL, where its password should not stand in the environment' -r
complete -c view-ingest -l posts-table -d 'The table of posts, with its schema if need be; upper case and odd characters are kept: `Post`, `blog.Post`' -r
complete -c view-ingest -l post-id-column -d 'The column with a post\'s id' -r
complete -c view-ingest -l author-column -d 'The column with a post\'s author; given and empty: posts have no author' -r
complete -c view-ingest -l count-column -d 'The column with a post\'s count of views' -r
complete -c view-ingest -l count-table -d 'A table of its own for the counts, `(post_id, views)`: with one, the posts table is only read' -r
complete -c view-ingest -l ledger-table -d 'The ledger, the table of who has viewed what; without a schema, in the schema of the posts' -r
complete -c view-ingest -l log-level -d 'What to log: error, warn, info, debug or trace, or a filter such as `info,view_ingest=debug`' -r
complete -c view-ingest -l log-format -d 'The form of log lines: text or json' -r
complete -c view-ingest -s h -l help -d 'Print help (see more with \'--help\')'
complete -c view-ingest -s V -l version -d 'Print version'
