#!/usr/bin/env bash
# Train on several GPUs of one or more machines, by torchrun.
# Usage: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several machines: the same line on each, with NNODES, NODE_RANK (0, 1, ...),
# MASTER_ADDR and PORT set.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
config=$1 gpus=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" --nproc-per-node="$gpus" \
    "$root/tools/train.py" "$config" --launcher pytorch "$@"
