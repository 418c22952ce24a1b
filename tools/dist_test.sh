#!/usr/bin/env bash
# Test on several GPUs of one or more machines, by torchrun.
# Usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# Several machines: the same line on each, with NNODES, NODE_RANK (0, 1, ...),
# MASTER_ADDR and PORT set. PYTHON is the Python to use (python).
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
exec "$(dirname "$0")/torchrun.sh" "$3" test.py "$1" "$2" "${@:4}"
