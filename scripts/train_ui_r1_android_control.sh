#!/usr/bin/env bash
# UI-R1 with Qwen2.5-VL-3B on its 136 steps of AndroidControl (configs/papers/ui_r1_android_control.yaml). The paper: 8 GPUs
# of 24 GB, about 8 hours. Written for one GPU of 80 GB, about 2 hours (an estimate: 100 s a step). Not yet run on one.
# usage: scripts/train_ui_r1_android_control.sh TRAINING_LIST.json SCREENSHOTS_FOLDER [key=value ...] [--dry-run]
# TRAINING_LIST.json: [{"img_filename": "a.png", "bbox": [x1, y1, x2, y2], "instruction": "..."},
#                      {"img_filename": "b.png", "action": "scroll", "instruction": "..."}, ...]
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:?the JSON list of steps} images=${2:?the folder of the screenshots}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

[ -f data/ui_r1/train.jsonl ] ||
  mmrl data convert android-control "$steps" "media=$images" --out data/ui_r1/train.jsonl
mmrl train configs/papers/ui_r1_android_control.yaml "$@"
