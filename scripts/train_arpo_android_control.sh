#!/usr/bin/env bash
# ARPO in single steps on AndroidControl with UI-TARS-1.5-7B (configs/papers/arpo_android_control.yaml), on the steps that
# the model gets right at least once in 8. The paper trains whole tasks in OSWorld, which this cannot. Written for 8 GPUs of
# 80 GB, about 4 hours (an estimate: 2 minutes a step). Not yet run on them, so no result stands here.
# usage: scripts/train_arpo_android_control.sh STEPS SCREENSHOTS [key=value ...] [--resume] [--dry-run]
#   STEPS        a JSON list in UI-R1's form: [{"img_filename": "a.png", "bbox": [x1, y1, x2, y2], "instruction": "..."}, ...];
#                UI-R1's own is https://huggingface.co/datasets/LZXzju/UI-R1-3B-Train
#   SCREENSHOTS  the folder of its pictures
inputs=(steps=android-control/train.json screenshots=android-control)
source "$(dirname "$0")/start_training.sh"

recipe=configs/papers/arpo_android_control.yaml data=data/android_control
make $data/train.jsonl convert android-control "$steps" "media=$screenshots"
# Steps that are always right are left out as well: they teach nothing, and the paper keeps them.
stand_in $data/arpo.jsonl $data/train.jsonl
make $data/arpo.jsonl select $data/train.jsonl --config $recipe --completions 8 --metric done "${overrides[@]}" data.train=$data/train.jsonl
train $recipe
