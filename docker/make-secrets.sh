#!/bin/sh
# Make the files that compose.yaml and ray-up.yaml read. What exists is kept, so this can be run again.
#
# Compose mounts a secret as it is on the host, owner and mode included, and the containers' users (10001) own nothing
# on the host. So: a folder that only you may enter (0700), and files that anybody may read (0444) who gets to them.
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"

keep() { # NAME: write standard input to a file of that name, unless it is there
    [ -s "$folder/$1" ] && return
    cat >"$folder/$1.part"
    chmod 444 "$folder/$1.part"
    mv "$folder/$1.part" "$folder/$1"
    echo "made $folder/$1" >&2
}

random() { # BYTES, as hexadecimal digits: they need no quoting in any address or file
    head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'
}

random 32 | keep ray_token
random 24 | keep postgres_password
random 24 | keep mlflow_admin_password
random 32 | keep mlflow_secret_key
random 10 | keep s3_access_key
random 24 | keep s3_secret_key
# MLflow's clients read this file; it goes to the driver.
printf '[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = %s\n' \
    "$(cat "$folder/mlflow_admin_password")" | keep mlflow_credentials
