#!/bin/sh
# Make every generated secret of compose.yaml in DIR, which must not exist: sh make-secrets.sh DIR
# Not made here: proxy.crt, proxy.key (your certificate), proxy_users (lines of NAME HASH, from `caddy hash-password`); api.crt and
# api.key, a certificate for the name `api` between proxy and API, with api_ca.crt, who signed it; and what
# `hcp tls init --host GATEWAY` makes: ca.crt, gateway.crt/.key, allocator.crt/.key, collector.crt/.key, reader.crt/.key.
set -eu
dir=${1:?"usage: make-secrets.sh DIR"}
umask 077
mkdir "$dir"
word() { od -An -tx1 -N24 /dev/urandom | tr -d ' \n'; }
put() { printf '%s' "$2" > "$dir/$1"; chmod 0444 "$dir/$1"; }
for role in hcp_admin hcp_feed hcp_control hcp_allocator hcp_api hcp_operator hcp_collector hcp_fleet hcp_scheduler dagster lake_writer lake_reader hcp_mlflow; do
    put "$role" "$(word)"
done
for name in api_signing_keys api_keys_pepper; do
    put "$name" "$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')"
done
owner=$(word)
put postgres_owner "$owner"
put database_url "postgresql://hcp_owner:$owner@postgres:5432/postgres"
broker=$(word)
put rabbitmq.conf "default_user = hcp
default_pass = $broker
"
put celery_broker "amqp://hcp:$broker@broker:5672//"
store=$(word)
put lake_s3_secret "$store"
put store.json "{\"identities\": [{\"name\": \"hcp\", \"credentials\": [{\"accessKey\": \"hcp-lake\", \"secretKey\": \"$store\"}], \"actions\": [\"Admin\", \"Read\", \"Write\", \"List\", \"Tagging\"]}]}
"
