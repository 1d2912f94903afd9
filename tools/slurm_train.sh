#!/usr/bin/env bash
# Train under SLURM, one task per GPU.
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]
# More options for srun itself: SRUN_ARGS="--time=1-0 --signal=TERM@120".
# On a stop signal a run saves a checkpoint and exits with code 75. It is then queued again and
# resumed: by scontrol inside a job of sbatch, else by another srun. REQUEUE=0 disables the requeue.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
work_dir=$4
shift 4
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
per_node=$((gpus < per_node ? gpus : per_node))
here=$(cd "$(dirname "$0")" && pwd)
resume=()
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
    resume=(--resume)
fi
asked=0 # somebody at a terminal wants it to end
trap 'asked=1' INT
while true; do
    code=0
    # SRUN_ARGS is split into words on purpose.
    # shellcheck disable=SC2086
    srun --partition="$partition" --job-name="$job" --gres=gpu:"$per_node" --ntasks="$gpus" \
        --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
        ${SRUN_ARGS:-} \
        "${PYTHON:-python}" -u "$here/train.py" "$config" --work-dir "$work_dir" --launcher slurm \
        "$@" ${resume[@]+"${resume[@]}"} || code=$?
    if [ "$code" -ne 75 ] || [ "$asked" -eq 1 ] || [ "${REQUEUE:-1}" -eq 0 ]; then
        exit "$code"
    fi
    if [ -n "${SLURM_JOB_ID:-}" ]; then
        scontrol requeue "$SLURM_JOB_ID"
        exit "$code"
    fi
    resume=(--resume)
done
