#!/usr/bin/env bash
# GUI-RCPO with Qwen2.5-VL-3B on the screens of ScreenSpot-v2, without their labels (configs/papers/
# gui_rcpo_screenspot_v2.yaml), then GUI-RC on top: 64 regions vote. Written for 8 GPUs of 80 GB, about 10 hours (the paper
# does not say); not yet run on them, so no result stands here. The paper: 80.1 -> 82.6 by GUI-RC -> 85.1 by GUI-RCPO.
# usage: scripts/train_gui_rcpo_screenspot_v2.sh ANNOTATIONS IMAGES [key=value ...] [--resume] [--dry-run]
#   ANNOTATIONS  a file of ScreenSpot-v2, or the folder of all: https://huggingface.co/datasets/OS-Copilot/ScreenSpot-v2
#   IMAGES       the folder of its pictures
inputs=(annotations=screenspot images=screenspot)
source "$(dirname "$0")/start_training.sh"

data=data/screenspot_v2_boxes/test.jsonl recipe=configs/papers/gui_rcpo_screenspot_v2.yaml
# GUI-RC and GUI-RCPO ask for a box: regions of the model's own size vote better than squares around points.
make $data convert screenspot "$annotations" "media=$images" coordinates=seen \
  "prompt=Find the element of this screenshot that best matches the instruction: {instruction}. Answer with exactly one box [x1, y1, x2, y2]{unit}, nothing else."
train $recipe
for model in "Qwen/Qwen2.5-VL-3B-Instruct --config $recipe" runs/gui_rcpo_screenspot_v2; do
  # shellcheck disable=SC2086
  evaluate $model $data --metrics screenspot
  # shellcheck disable=SC2086
  evaluate $model $data --metrics screenspot --vote region --samples 64 --temperature 0.5
done
