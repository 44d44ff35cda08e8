#!/usr/bin/env bash
# UI-R1 with Qwen2.5-VL-3B on its 136 steps of AndroidControl (configs/papers/ui_r1_android_control.yaml). The paper: 8 GPUs
# of 24 GB, about 8 hours. Written for one GPU of 80 GB, about 2 hours (an estimate: 100 s a step). Not yet run on one.
# usage: scripts/train_ui_r1_android_control.sh STEPS SCREENSHOTS [key=value ...] [--resume] [--dry-run]
#   STEPS        the list of https://huggingface.co/datasets/LZXzju/UI-R1-3B-Train, which is
#                [{"img_filename": "a.png", "bbox": [x1, y1, x2, y2], "instruction": "..."},
#                 {"img_filename": "b.png", "action": "scroll", "instruction": "..."}, ...]
#   SCREENSHOTS  the folder of its pictures
inputs=(steps=android-control/train.json screenshots=android-control)
source "$(dirname "$0")/start_training.sh"

make data/ui_r1/train.jsonl convert android-control "$steps" "media=$screenshots"
train configs/papers/ui_r1_android_control.yaml
