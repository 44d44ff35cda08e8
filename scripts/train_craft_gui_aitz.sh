#!/usr/bin/env bash
# A curriculum over AITZ with Qwen2.5-VL-3B, short tasks first (configs/papers/craft_gui_aitz.yaml). CRAFT-GUI's own data and
# constants are not public; this is its idea on data that is. Written for 8 GPUs of 80 GB, about 3 hours (an estimate: 35 s a
# step). Not yet run on them, so no result stands here.
# usage: scripts/train_craft_gui_aitz.sh TRAIN TEST [key=value ...] [--resume] [--dry-run]
#   TRAIN  the folder train of AITZ, https://github.com/IMNearth/CoAT, which holds general/, install/, ...
#   TEST   the folder general in its test/
inputs=(train=aitz test=aitz/google_apps)
source "$(dirname "$0")/start_training.sh"

make data/aitz/curriculum.jsonl convert aitz "$train" "media=$train"
make data/aitz/test.jsonl convert aitz "$test" "media=$(dirname "$test")" split=test
train configs/papers/craft_gui_aitz.yaml
evaluate runs/craft_gui_aitz data/aitz/test.jsonl --metrics aitz
