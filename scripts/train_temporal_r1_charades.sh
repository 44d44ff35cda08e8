#!/usr/bin/env bash
# Temporal-R1 on Charades-STA with Qwen2.5-VL-3B: rows are selected by the spread of 8 completions, then an epoch of GRPO
# (configs/papers/temporal_r1_charades.yaml). The paper: 8 GPUs with FSDP and offload; mIoU 53.9 (base 37.2). All weights
# with gradients, Adam and the reference are 75 GB; on one GPU of 80 GB add model.adapter.rank=64, and expect about 10 hours
# for the selection and 10 for training (an estimate: 45 s a step). Not yet run on one, so no result stands here.
# usage: scripts/train_temporal_r1_charades.sh TRAIN TEST VIDEOS [key=value ...] [--resume] [--dry-run]
#   TRAIN   charades_sta_train.txt of https://github.com/jiyanggao/TALL; TEST: its charades_sta_test.txt
#   VIDEOS  the folder of Charades' videos, https://prior.allenai.org/projects/charades
inputs=(train=charades-sta/charades_sta_train.txt test=charades-sta/charades_sta_train.txt videos=charades-sta/videos)
source "$(dirname "$0")/start_training.sh"

recipe=configs/papers/temporal_r1_charades.yaml data=data/charades_json
for split in train test; do
  make $data/$split.jsonl convert charades-sta "${!split}" "media=$videos" style=json split=$split
done
stand_in $data/selected.jsonl $data/train.jsonl
make $data/selected.jsonl select $data/train.jsonl --config $recipe "${overrides[@]}"
train $recipe
evaluate runs/temporal_r1_charades $data/test.jsonl --metrics grounding
