#!/usr/bin/env bash
# ARPO in single steps on AndroidControl with UI-TARS-1.5-7B (configs/papers/arpo_android_control.yaml), on the steps that
# the model gets right at least once in 8. The paper trains whole tasks in OSWorld, which this cannot. Written for 8 GPUs of
# 80 GB, about 4 hours (an estimate: 2 minutes a step). Not yet run on them, so no result stands here.
# usage: scripts/train_arpo_android_control.sh TRAINING_LIST.json SCREENSHOTS_FOLDER [key=value ...] [--dry-run]
# TRAINING_LIST.json is in UI-R1's form: [{"img_filename": "a.png", "bbox": [x1, y1, x2, y2], "instruction": "..."}, ...].
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:?the JSON list of steps} images=${2:?the folder of the screenshots}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

[ -f data/android_control/train.jsonl ] ||
  mmrl data convert android-control "$steps" "media=$images" --out data/android_control/train.jsonl
# Steps that are always right are left out as well: they teach nothing, and the paper keeps them.
[ -f data/android_control/arpo.jsonl ] || [[ " $* " == *" --dry-run "* ]] ||
  mmrl data select data/android_control/train.jsonl --config configs/papers/arpo_android_control.yaml \
    --completions 8 --metric done --out data/android_control/arpo.jsonl data.train=data/android_control/train.jsonl
mmrl train configs/papers/arpo_android_control.yaml "$@"
