# Puts the addresses of docker-compose.cluster.yml into haproxy.cfg.
s/^    server ingest1 127\.0\.0\.1:3001$/    server ingest1 172.30.17.21:3001/
s/^    server ingest2 127\.0\.0\.1:3011$/    server ingest2 172.30.17.22:3001/
# Any of them runs a whole cycle.
s/^    server syncd 127\.0\.0\.1:3002 \(.*\)$/    server syncd1 172.30.17.31:3002 \1\
    server syncd2 172.30.17.32:3002 \1\
    server syncd3 172.30.17.33:3002 \1/
