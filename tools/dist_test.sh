#!/usr/bin/env bash
# Test on N GPUs of this machine, or on N CPU processes (gloo) where it has no GPU.
#   tools/dist_test.sh CONFIG CHECKPOINT N [options of test.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT on each.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT N [options of test.py]" >&2
    exit 2
fi
config=$1
checkpoint=$2
processes=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${MASTER_PORT:-29500}" \
    --nproc_per_node="$processes" \
    "$here/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
