# shellcheck shell=bash
# Sourced by dist_train.sh and dist_test.sh: start one process a GPU.
#
# Environment variables:
#   NNODES, NODE_RANK, MASTER_ADDR   several machines: start the same line on each, with its own NODE_RANK
#   PORT                             where the processes meet (default 29500)
#   PYTHON                           interpreter (default: the active one, else .venv of the checkout)
#   PELK_MM_ALLOW_CPU=1              run on a machine without GPUs, with gloo

# launch GPUS TOOL CONFIG ARGUMENTS...
launch() {
  local gpus="$1" tool="$2" config python
  config="$(find_config "$3")"
  python="$(find_python)"
  exec "$python" "$ROOT/tools/launch.py" \
    --gpus "$gpus" \
    --nnodes "${NNODES:-1}" \
    --node-rank "${NODE_RANK:-0}" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" \
    --port "${PORT:-29500}" \
    "$tool" "$config" "${@:4}"
}
