#!/bin/bash
# An archive on a Slurm cluster, a part for each task of an array: see docs/operations.md.
#   sbatch --array=1-16 slurm.sh /archive /results
# Sent again, it goes on where it stopped.
#SBATCH --job-name=captioner
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail
archive=$1 results=$2
shard=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT
mkdir -p "$results"
status=0
srun /opt/captioner/bin/captioner caption --recursive "$archive" --shard "$shard" \
    --output "$results/${SLURM_ARRAY_TASK_ID}-of-${SLURM_ARRAY_TASK_COUNT}.jsonl" --resume || status=$?
# 1: some clips could not be read, and their rows say why; the part is done all the same.
[ "$status" -le 1 ]
