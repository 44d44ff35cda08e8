#!/usr/bin/env bash
# UI-R1-E with Qwen2.5-VL-3B on about 2,000 clicks: thoughts that DAST shortens, then no thoughts (configs/papers/
# ui_r1_e_think.yaml, ui_r1_e_nothink.yaml). Written for 4 GPUs of 80 GB, about 12 hours a stage (an estimate: 40 s a step).
# Not yet run on them, so no result stands here.
# usage: scripts/train_ui_r1_e_android_control.sh CLICKS SCREENSHOTS [key=value ...] [--resume] [--dry-run]
#   CLICKS       in UI-R1's form: [{"img_filename": "a.png", "bbox": [x1, y1, x2, y2], "instruction": "..."}, ...]; the paper
#                takes clicks of AndroidControl, https://github.com/google-research/google-research/tree/master/android_control,
#                and of ScreenSpot's training set
#   SCREENSHOTS  the folder of their pictures
inputs=(clicks=android-control/train.json screenshots=android-control)
base=Qwen/Qwen2.5-VL-3B-Instruct
source "$(dirname "$0")/start_training.sh"

make data/ui_r1_e/think.jsonl convert android-control "$clicks" "media=$screenshots" clicks_only=true think=true
make data/ui_r1_e/nothink.jsonl convert android-control "$clicks" "media=$screenshots" clicks_only=true think=false
train configs/papers/ui_r1_e_think.yaml
train configs/papers/ui_r1_e_nothink.yaml
