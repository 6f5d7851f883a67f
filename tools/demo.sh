#!/usr/bin/env bash
# Trains a UperNet with a PeLK-atto backbone (51x51 kernels) on made-up scenes, scores it and paints its predictions.
#
#   bash tools/demo.sh                minutes on two CPU cores, without a compiler; a GPU is used when present
#   bash tools/demo.sh --overwrite    train again; without it a second call resumes, or scores the trained net
#
# Further arguments go to tools/train.py. Results go to work_dirs/demo, or to the folder that PELK_MM_DEMO_DIR names.
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

CONFIG=configs/demo/upernet_pelk_atto_toy_64.py
OUT="${PELK_MM_DEMO_DIR:-work_dirs/demo}"
TRAINED="$OUT/train/finished"
export PELK_MM_DATA="$OUT/data" PYTHONUNBUFFERED=1

say() { printf '[demo] %s\n' "$*"; }
minutes() { printf '%d min %d s' $(($1 / 60)) $(($1 % 60)); }

# Runs a command with its output in a log; when it fails, shows what it wrote to stderr last.
logged() {
  local log="$OUT/logs/$1.log" status=0
  shift
  "$@" >"$log" 2>"$log.err" || status=$?
  ((status == 0)) || fail "$status" "$log"
}

fail() {
  tail -n 5 "$2.err" >&2
  printf 'error: that step failed (log: %s); bash tools/demo.sh resumes here, with --overwrite it trains again\n' "$2" >&2
  exit "$1"
}

# mmengine's lines, reduced to what one watches.
progress() {
  sed -u -n -E \
    -e 's@^.*Iter\(train\) \[ *([0-9]+)/([0-9]+)\].* eta: ([0-9:]+) .* loss: ([0-9.]+).*@[demo]   iteration \1 of \2, loss \4, time left \3@p' \
    -e 's@^.*Iter\(val\).* mIoU: ([0-9.]+).*@[demo]   held-out mIoU so far: \1@p'
}

train() {
  local log="$OUT/logs/train.log" mode=() status=0
  # "--overwrite" among the arguments decides; else whatever an interrupted call has saved is used.
  if [[ " $* " != *' --overwrite '* ]] && compgen -G "$OUT/train/*.pth" >/dev/null; then mode=(--resume); fi
  rm -f "$TRAINED"
  # Ctrl-C is for the training: it says in its own words what is saved, and its last lines must still come through.
  trap : INT
  "$PYTHON" tools/train.py "$CONFIG" --work-dir "$OUT/train" ${mode[@]+"${mode[@]}"} "$@" 2>"$log.err" |
    (trap '' INT && tee "$log" | progress) || status=$?
  trap - INT
  ((status == 0)) || fail "$status" "$log"
  touch "$TRAINED"
}

score() { # NAME CHECKPOINT
  logged "score_$1" "$PYTHON" tools/test.py "$CONFIG" "$2" --work-dir "$OUT/$1" --out "$OUT/$1/predictions" \
    --overwrite
}
score_untrained() {
  logged untrained "$PYTHON" tools/analysis_tools/save_untrained.py "$CONFIG" "$OUT/untrained/start.pth" --overwrite
  score untrained "$OUT/untrained/start.pth"
}

# Both at once: for most of the time each keeps a single core busy.
score_both() {
  local other
  set -m # a process group of its own, to be stopped as a whole
  score_untrained &
  other=$!
  set +m
  # shellcheck disable=SC2064  # this group, whatever comes
  trap "kill -TERM -- -$other 2>/dev/null || true" EXIT
  score test "$(cat "$OUT/train/last_checkpoint")"
  wait "$other"
  trap - EXIT
}

started=$SECONDS
PYTHON="$(bash tools/setup.sh --without-operators --print-python)"
set_up=$((SECONDS - started))
mkdir -p "$OUT/logs"

say "1 of 4: drawing scenes in ADE20K's layout into $OUT/data/toy"
logged data "$PYTHON" tools/make_toy_data.py "$OUT/data/toy" --train 800 --size 64 --overwrite

if [[ -e "$TRAINED" && $# == 0 ]]; then
  say "2 of 4: trained already (bash tools/demo.sh --overwrite trains again)"
else
  say "2 of 4: training $CONFIG"
  train "$@"
fi

say "3 of 4: scoring the held-out scenes, with the trained and with an untrained net"
score_both

say "4 of 4: painting"
logged report "$PYTHON" tools/analysis_tools/segmentation_report.py "$CONFIG" "$OUT/test/predictions" \
  --untrained "$OUT/untrained/predictions" --sheet "$OUT/predictions.png" --overwrite
sed -n '/ images, /,/^pixel accuracy/p' "$OUT/logs/report.log"
say "done: $(minutes $set_up) to set up, $(minutes $((SECONDS - started - set_up))) to draw, train, score and paint"
say "picture: $(realpath -- "$OUT/predictions.png")"
