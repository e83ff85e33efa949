#!/bin/sh
# `ablation` as a container of its own beside a Ray cluster. Ray lets a driver connect only from one of its nodes: for
# the commands that train, this container becomes a node that takes no work.
set -eu
case "${1:-}" in
    run | retry) ray start --address="$RAY_ADDRESS" --num-cpus=0 --num-gpus=0 --object-store-memory=134217728 >&2 ;;
esac
exec ablation "$@"
