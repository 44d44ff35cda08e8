#!/usr/bin/env bash
# GUI-RCPO with Qwen2.5-VL-3B on the screens of ScreenSpot-v2, without their labels (configs/papers/
# gui_rcpo_screenspot_v2.yaml), then GUI-RC on top: 64 regions vote. Written for 8 GPUs of 80 GB, about 10 hours (the paper
# does not say); not yet run on them, so no result stands here. The paper: 80.1 -> 82.6 by GUI-RC -> 85.1 by GUI-RCPO.
# usage: scripts/train_gui_rcpo_screenspot_v2.sh SCREENSPOT_V2_ANNOTATIONS IMAGES_FOLDER [key=value ...]
set -euo pipefail
cd "$(dirname "$0")/.."
annotations=${1:?the ScreenSpot-v2 annotation file or folder} images=${2:?the folder of its images}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"
data=data/screenspot_v2_boxes/test.jsonl config=configs/papers/gui_rcpo_screenspot_v2.yaml

# GUI-RC and GUI-RCPO ask for a box: regions of the model's own size vote better than squares around points.
[ -f "$data" ] || mmrl data convert screenspot "$annotations" "media=$images" coordinates=seen \
  "prompt=Find the element of this screenshot that best matches the instruction: {instruction}. Answer with exactly one box [x1, y1, x2, y2]{unit}, nothing else." \
  --out "$data"
mmrl train "$config" "$@"
[[ " $* " == *" --dry-run "* ]] && exit
for model in "Qwen/Qwen2.5-VL-3B-Instruct --config $config" runs/gui_rcpo_screenspot_v2; do
  # shellcheck disable=SC2086
  mmrl eval $model "$data" --metrics screenspot
  # shellcheck disable=SC2086
  mmrl eval $model "$data" --metrics screenspot --vote region --samples 64 --temperature 0.5
done
