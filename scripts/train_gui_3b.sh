#!/usr/bin/env bash
# Qwen2.5-VL-3B learns to click on drawn screens by GRPO (configs/gui_3b.yaml); held out: ScreenSpot-v2. Written for one
# GPU of 80 GB, about 3 hours (an estimate: 35 s a step). Not yet run on one, so no result stands here.
# usage: scripts/train_gui_3b.sh ANNOTATIONS IMAGES [key=value ...] [--resume] [--dry-run]
#   ANNOTATIONS  a file of ScreenSpot-v2, or the folder of all: https://huggingface.co/datasets/OS-Copilot/ScreenSpot-v2
#   IMAGES       the folder of its pictures
inputs=(annotations=screenspot images=screenspot)
source "$(dirname "$0")/start_training.sh"

[ -f data/gui_full/train.jsonl ] ||
  mmrl data make gui data/gui_full scale=full coordinates=seen $($dry_run && echo count=4 test_count=2)
make data/screenspot_v2/test.jsonl convert screenspot "$annotations" "media=$images" coordinates=seen
train configs/gui_3b.yaml
