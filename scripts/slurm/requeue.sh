# shellcheck shell=bash
# Sourced by the batch scripts here, from the repository's root.
# srun_and_requeue RECIPE...: runs the recipe as a job step on every machine of the job. Before the
# time limit (#SBATCH --signal=B:TERM@300) and on preemption SLURM sends SIGTERM: the run saves and
# leaves, and the job is queued again; the recipe then goes on where it stopped.
set -euo pipefail
source scripts/common.sh

srun_and_requeue() {
  local status=0
  export NNODES=${SLURM_JOB_NUM_NODES:-1}
  export RDZV_ID=${SLURM_JOB_ID:?this script is for sbatch}
  RDZV_ENDPOINT=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  RDZV_ENDPOINT+=:$((20000 + SLURM_JOB_ID % 10000))
  export RDZV_ENDPOINT
  # Since SLURM 22.05 a step does not inherit the job's cores per task.
  interruptible srun --kill-on-bad-exit=1 \
    ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} bash "$@" || status=$?
  if ((status == EXIT_INTERRUPTED)); then
    scontrol requeue "$SLURM_JOB_ID"
  fi
  return "$status"
}
