#!/usr/bin/env bash
# UI-R1-E with Qwen2.5-VL-3B on about 2,000 clicks: thoughts that DAST shortens, then no thoughts (configs/papers/
# ui_r1_e_think.yaml, ui_r1_e_nothink.yaml). Written for 4 GPUs of 80 GB, about 12 hours a stage (an estimate: 40 s a step).
# Not yet run on them, so no result stands here.
# usage: scripts/train_ui_r1_e_android_control.sh GROUNDING_LIST.json SCREENSHOTS_FOLDER [key=value ...] [--dry-run]
# GROUNDING_LIST.json is in UI-R1's form: [{"img_filename": "a.png", "bbox": [x1, y1, x2, y2], "instruction": "..."}, ...]
set -euo pipefail
cd "$(dirname "$0")/.."
clicks=${1:?the JSON list of clicks} images=${2:?the folder of the screenshots}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

for stage in think nothink; do
  [ -f data/ui_r1_e/$stage.jsonl ] ||
    mmrl data convert android-control "$clicks" "media=$images" clicks_only=true \
      think=$([ $stage = think ] && echo true || echo false) --out data/ui_r1_e/$stage.jsonl
done
mmrl train configs/papers/ui_r1_e_think.yaml "$@"
[[ " $* " == *" --dry-run "* ]] && exit
mmrl train configs/papers/ui_r1_e_nothink.yaml "$@"
