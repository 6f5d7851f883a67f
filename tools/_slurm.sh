# shellcheck shell=bash
# Sourced by slurm_train.sh and slurm_test.sh.
#
# Environment variables:
#   GPUS           processes in all, one GPU each (default 8)
#   GPUS_PER_NODE  (default 8, or GPUS where that is less)
#   CPUS_PER_TASK  (default 5)
#   SRUN_ARGS      further arguments of srun, split at spaces
#   PY_ARGS        further arguments of the tool, split at spaces
#   PORT           where the processes meet (default 29500)
#   PYTHON         interpreter (default: the active one, else .venv of the checkout)

# submit PARTITION JOB_NAME TOOL CONFIG ARGUMENTS...
submit() {
  local partition="$1" job_name="$2" tool="$3" config python
  config="$(find_config "$4")"
  python="$(find_python)"
  command -v srun >/dev/null || die "srun was not found: Slurm is needed here; without it use tools/dist_${tool%.py}.sh"
  [[ -f "$config" ]] || die "config $config does not exist"
  local gpus="${GPUS:-8}" per_node="${GPUS_PER_NODE:-8}"
  [[ "$gpus" =~ ^[1-9][0-9]*$ && "$per_node" =~ ^[1-9][0-9]*$ ]] ||
    die "GPUS and GPUS_PER_NODE must be positive numbers, but got GPUS=$gpus GPUS_PER_NODE=$per_node"
  ((per_node <= gpus)) || per_node="$gpus"
  export MASTER_PORT="${PORT:-${MASTER_PORT:-29500}}"
  # shellcheck disable=SC2086  # SRUN_ARGS and PY_ARGS are lists of words
  exec srun -p "$partition" \
    --job-name="$job_name" \
    --gres="gpu:$per_node" \
    --ntasks="$gpus" \
    --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "$python" -u "$ROOT/tools/$tool" "$config" "${@:5}" ${PY_ARGS:-} --launcher slurm
}
