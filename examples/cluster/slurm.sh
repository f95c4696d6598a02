#!/usr/bin/env bash
# Tunes over the nodes of a Slurm job: Ray on every node, trtune on the first one.
#
#   sbatch --nodes 4 --gpus-per-node 8 examples/cluster/slurm.sh plan.toml
#
# Every node needs trtune[cluster] at one version in the environment that is active when the job is submitted. The study may live in
# PostgreSQL: export TRTUNE_STORAGE before submitting. A job that is cut off is continued by submitting it again with the session:
#
#   sbatch --nodes 4 --gpus-per-node 8 examples/cluster/slurm.sh --resume FILE
#SBATCH --job-name=trtune
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --signal=B:TERM@180
set -euo pipefail

if [ $# -eq 0 ]; then
    echo "usage: sbatch --nodes N --gpus-per-node G $0 PLAN|--resume FILE" >&2
    exit 2
fi

port=${TRTUNE_RAY_PORT:-6379}
nodes=${SLURM_JOB_NUM_NODES:?run this with sbatch}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
ray_steps=()

finish() {
    # Ask trtune to end in good order before Ray goes away under it.
    if [ -n "${tuner:-}" ] && kill -INT "$tuner" 2>/dev/null; then
        wait "$tuner" || true
    fi
    for step in "${ray_steps[@]}"; do
        kill "$step" 2>/dev/null || true
    done
}
trap finish EXIT
trap 'exit 143' TERM

srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" ray start --head --port="$port" --block &
ray_steps+=($!)
if [ "$nodes" -gt 1 ]; then
    srun --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --overlap --exclude="$head" \
        ray start --address="$head:$port" --block &
    ray_steps+=($!)
fi

words=("$@")
if [ "$1" = --resume ]; then
    words+=(--trust) # the session is this user's own, and may have been begun on another node
fi
srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" \
    trtune tune "${words[@]}" --headless --cluster "$head:$port" --wait-nodes "$nodes" &
tuner=$!
wait "$tuner"
