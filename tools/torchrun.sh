#!/usr/bin/env bash
# Start a tool of this folder in GPUS processes; dist_train.sh and dist_test.sh
# say how.
set -euo pipefail
gpus=$1 tool=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" --nproc-per-node="$gpus" \
    "$root/tools/$tool" "$@" --launcher pytorch
