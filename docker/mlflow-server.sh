#!/bin/sh
# MLflow reads passwords only from its environment. Here they come from files, so that neither the compose file, nor
# `docker inspect`, nor the list of processes shows one. The address of the database holds no password: PostgreSQL's
# client library takes PGPASSWORD. Arguments go to `mlflow server`.
set -eu
secrets=${SECRETS_DIR:-/run/secrets}

PGPASSWORD=$(cat "$secrets/postgres_password")
MLFLOW_AUTH_ADMIN_PASSWORD=$(cat "$secrets/mlflow_admin_password")
MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$secrets/mlflow_secret_key")
AWS_ACCESS_KEY_ID=$(cat "$secrets/s3_access_key")
AWS_SECRET_ACCESS_KEY=$(cat "$secrets/s3_secret_key")
export PGPASSWORD MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY

# Users live in the same database: by default MLflow puts them into a file in the working folder, lost with the container.
# Each password check costs 0.1 s by design: remembered for a minute.
MLFLOW_AUTH_CONFIG_PATH=$(mktemp)
export MLFLOW_AUTH_CONFIG_PATH
cat >"$MLFLOW_AUTH_CONFIG_PATH" <<INI
[mlflow]
default_permission = READ
database_uri = $MLFLOW_BACKEND_STORE_URI
admin_username = admin
auth_cache_ttl_seconds = 60
INI

exec mlflow server --app-name basic-auth "$@"
