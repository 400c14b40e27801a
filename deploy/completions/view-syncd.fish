# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_view_syncd_global_optspecs
    string join \n admin-listen= interval= linger= batch-size= drains= shutdown-timeout= warm-top= created-column= jwt-secret= jwt-secret-file= jwt-secret-encoding= jwt-allow-weak-secret= jwt-public-key-file= jwt-jwks-file= jwt-jwks-url= jwt-algorithms= jwt-issuer= jwt-audience= jwt-leeway= jwt-viewer-claim= jwt-admin-claim= admin-ids= redis-url= redis-uri= redis-url-file= redis-host= redis-port= redis-password= redis-db= redis-prefix= view-ttl= allow-eviction= database-url= database-url-file= posts-table= post-id-column= author-column= count-column= count-table= ledger-table= log-level= log-format= h/help V/version
end

function __fish_view_syncd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_view_syncd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_view_syncd_using_subcommand
    set -l cmd (__fish_view_syncd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c view-syncd -n "__fish_view_syncd_needs_command" -l admin-listen -d 'Where operators find /livez, /readyz, /metrics and POST /posts/sync-views' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l interval -d 'How often all posts in Redis are compared with PostgreSQL' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l linger -d 'How long views may wait for others to be stored together with them' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l batch-size -d 'How many views are stored together at most; each takes about 350 bytes of memory' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l drains -d 'In a cluster, how many partitions one process drains side by side; each takes two connections to PostgreSQL' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l shutdown-timeout -d 'How long the last drain may take after SIGTERM' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l warm-top -d 'How many of the newest posts are loaded into Redis at the start, beside the drain; 0: none' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l created-column -d 'The column of the posts table with the time of a post\'s creation, by which the newest are found' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-secret -d 'The secret of HS256 tokens; better through the environment or a file' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-secret-file -d 'A file with the secret of HS256 tokens' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-secret-encoding -d 'How the secret is given: `text`, or `base64`, which Spring\'s and other issuers decode before they sign' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-allow-weak-secret -d 'Accept a secret that can be guessed, which an application signs with already, with a warning' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-public-key-file -d 'A PEM file with the public keys of RS256, ES256 or EdDSA tokens, any number of them' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-jwks-file -d 'A file with a JSON Web Key Set (JWKS) of public keys' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-jwks-url -d 'The https URL of a JSON Web Key Set, as issuers publish it (`…/.well-known/jwks.json`)' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-algorithms -d 'More algorithms of the key\'s own family that are accepted, such as `HS512`, or `RS512,PS256` [default: none]' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-issuer -d 'Accept only tokens of this issuer (claim `iss`) [default: any]' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-audience -d 'Accept only tokens for this audience (claim `aud`) [default: any]' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-leeway -d 'How far the clocks of the tokens\' issuer and of this machine may differ' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-viewer-claim -d 'The claim with the viewer\'s id: a name, or names with dots between them, such as `user.id`' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l jwt-admin-claim -d 'The claim that makes an administrator, and its value; repeatable, or with commas between them' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l admin-ids -d 'The ids of administrators, with commas between them, for issuers whose tokens have no roles [default: none]' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l redis-url -d 'redis://, rediss:// (TLS), redis-sentinel:// or redis-cluster://, with user, password and database [default: redis://localhost:6379/0]' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l redis-uri -d 'Another name of that URL' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l redis-url-file -d 'A file with that URL, where its password should not stand in the environment' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l redis-host -d 'The host, where no URL is given' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l redis-port -d 'The port, where no URL is given' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l redis-password -d 'The password, where no URL is given; better through the environment' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l redis-db -d 'The database\'s number, where no URL is given' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l redis-prefix -d 'What every key and channel begins with, where several installations share one database of Redis [default: empty]' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l view-ttl -d 'How long Redis keeps a post that nobody views' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l allow-eviction -d 'Put up with a Redis that may evict views that are not in PostgreSQL yet (maxmemory-policy allkeys-*)' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l database-url -d 'postgres://user:password@host:5432/name, with sslmode=disable, prefer, require, verify-ca or verify-full' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l database-url-file -d 'A file with that URL, where its password should not stand in the environment' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l posts-table -d 'The table of posts, with its schema if need be; upper case and odd characters are kept: `Post`, `blog.Post`' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l post-id-column -d 'The column with a post\'s id' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l author-column -d 'The column with a post\'s author; given and empty: posts have no author' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l count-column -d 'The column with a post\'s count of views' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l count-table -d 'A table of its own for the counts, `(post_id, views)`: with one, the posts table is only read' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l ledger-table -d 'The ledger, the table of who has viewed what; without a schema, in the schema of the posts' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l log-level -d 'What to log: error, warn, info, debug or trace, or a filter such as `info,view_ingest=debug`' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -l log-format -d 'The form of log lines: text or json' -r
complete -c view-syncd -n "__fish_view_syncd_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -s V -l version -d 'Print version'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -f -a "sync" -d 'Run one full synchronization and exit'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -f -a "migrate" -d 'Create the ledger table and what else is missing beside the posts in PostgreSQL, and exit'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -f -a "reconcile" -d 'Compare Redis, the ledger, bases and counts, and exit. Exits 1 where they differ, or something is left'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -f -a "forget" -d 'Erase a viewer from Redis and the ledger and exit. Totals stay. Exits 1 where something is left, as posts are locked'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -f -a "recount" -d 'Set each post\'s count to its base and the views that the ledger has, and exit. Exits 1 where locks are in the way'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -f -a "adopt" -d 'Bring existing views into the ledger and exit. Repeating it changes nothing. Exits 1 where some are left, as posts are locked'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -f -a "claim" -d 'Make this database the owner of the keys in Redis, whose they were before, and exit'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -f -a "dead" -d 'Show, offer again or remove the views that could not be stored'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -f -a "doctor" -d 'Look whether everything is as it is needed, and say what to do where it is not. Changes nothing. Exits 1 where something fails'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -f -a "explain" -d 'Tell what has become of a viewer\'s view of a post, and why. Changes nothing. Exits 1 where it does not count'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -f -a "status" -d 'Tell who leads, how far behind PostgreSQL is, and what could not be stored. Changes nothing. Exits 1 where something is not well'
complete -c view-syncd -n "__fish_view_syncd_needs_command" -f -a "warm" -d 'Load the posts that are asked for most into Redis and exit'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand sync" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand migrate" -l add-count-column -d 'Add the column of counts to the posts table where it is missing: a bigint of 0, without a rewrite of the table'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand migrate" -l viewer-index -d 'Make an index by which a viewer\'s views are found, for his history and his erasure, beside whoever uses the ledger'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand migrate" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand reconcile" -l post -d 'Only this post' -r
complete -c view-syncd -n "__fish_view_syncd_using_subcommand reconcile" -l repair -d 'Mend what differs'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand reconcile" -l restore-from-redis -d 'Mend what differs, and bring viewers back into the ledger whom only Redis knows, as after the restoration of a backup'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand reconcile" -l json -d 'Tell everything in JSON'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand reconcile" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand forget" -l json -d 'Tell the result in JSON'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand forget" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand recount" -l post -d 'Only this post' -r
complete -c view-syncd -n "__fish_view_syncd_using_subcommand recount" -l json -d 'Tell the result in JSON'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand recount" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand adopt" -l from-array -d 'The column of the posts table with an array of viewers: text[], uuid[], integers, or jsonb' -r
complete -c view-syncd -n "__fish_view_syncd_using_subcommand adopt" -l from-table -d 'The table with a row for each view, and its columns of posts, viewers and, if there is one, the time' -r
complete -c view-syncd -n "__fish_view_syncd_using_subcommand adopt" -l count -d '`keep`: a count stays what it is as long as it is at least what the ledger explains. `ledger`: it is what the ledger explains' -r -f -a "keep\t''
ledger\t''"
complete -c view-syncd -n "__fish_view_syncd_using_subcommand adopt" -l dry-run -d 'Tell the same numbers, and change nothing'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand adopt" -l json -d 'Tell everything in JSON'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand adopt" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand claim" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and not __fish_seen_subcommand_from list retry drop" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and not __fish_seen_subcommand_from list retry drop" -f -a "list" -d 'Show them: id, time of the view, post, viewer, reason. Exits 1 where there are any'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and not __fish_seen_subcommand_from list retry drop" -f -a "retry" -d 'Offer them to PostgreSQL again, with the time of the view, and remove those that it takes. Exits 1 where any are left'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and not __fish_seen_subcommand_from list retry drop" -f -a "drop" -d 'Remove them for good: these views count nowhere'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and __fish_seen_subcommand_from list" -l post -d 'Only those of this post' -r
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and __fish_seen_subcommand_from list" -l reason -d 'Only those whose reason has this text in it' -r
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and __fish_seen_subcommand_from list" -l json -d 'Tell everything in JSON'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and __fish_seen_subcommand_from retry" -l post -d 'Only those of this post' -r
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and __fish_seen_subcommand_from retry" -l reason -d 'Only those whose reason has this text in it' -r
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and __fish_seen_subcommand_from retry" -l json -d 'Tell everything in JSON'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and __fish_seen_subcommand_from retry" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and __fish_seen_subcommand_from drop" -l post -d 'Only those of this post' -r
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and __fish_seen_subcommand_from drop" -l reason -d 'Only those whose reason has this text in it' -r
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and __fish_seen_subcommand_from drop" -l json -d 'Tell everything in JSON'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand dead; and __fish_seen_subcommand_from drop" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand doctor" -l token-file -d 'A file with a sample token, of which is told whether it is accepted, for whom, and if not, what to do' -r
complete -c view-syncd -n "__fish_view_syncd_using_subcommand doctor" -l json -d 'Tell everything in JSON'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand explain" -l json -d 'Tell everything in JSON'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand explain" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand status" -l json -d 'Tell everything in JSON'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand status" -s h -l help -d 'Print help'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand warm" -l top -d 'How many posts; at most 1000000' -r
complete -c view-syncd -n "__fish_view_syncd_using_subcommand warm" -l by -d 'Which posts: the newest, those with the most views, or so many of each' -r -f -a "newest\t'The newest'
views\t'Those with the most views'"
complete -c view-syncd -n "__fish_view_syncd_using_subcommand warm" -l json -d 'Tell everything in JSON'
complete -c view-syncd -n "__fish_view_syncd_using_subcommand warm" -s h -l help -d 'Print help (see more with \'--help\')'
