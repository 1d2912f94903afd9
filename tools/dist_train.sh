#!/usr/bin/env bash
# Train on N GPUs of this machine, or on N CPU processes (gloo) where it has no GPU.
#   tools/dist_train.sh CONFIG N [options of train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT on each.
# Exit code 75: the run was stopped (SIGTERM, SIGINT) and has saved a checkpoint for --resume.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG N [options of train.py]" >&2
    exit 2
fi
config=$1
processes=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
# The launcher's own exit code does not tell a run that was stopped from one that failed.
LSPT_MM_STOPPED_FILE=$(mktemp -u)
export LSPT_MM_STOPPED_FILE
"${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${MASTER_PORT:-29500}" \
    --nproc_per_node="$processes" \
    "$here/train.py" "$config" --launcher pytorch "$@" &
launcher=$!
trap 'kill -TERM "$launcher" 2>/dev/null || true' TERM INT
code=0
wait "$launcher" || code=$?
while kill -0 "$launcher" 2>/dev/null; do # a signal ends the waiting, not the launcher
    code=0
    wait "$launcher" || code=$?
done
if [ -e "$LSPT_MM_STOPPED_FILE" ]; then
    rm -f "$LSPT_MM_STOPPED_FILE"
    exit 75
fi
exit "$code"
