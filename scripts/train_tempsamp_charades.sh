#!/usr/bin/env bash
# TempSamp-R1 on Charades-STA with Qwen2.5-VL-7B: an epoch without and an epoch with a thought
# (configs/papers/tempsamp_charades.yaml, tempsamp_charades_think.yaml), then both modes of inference on the test set.
# The paper: 4 x A100 80 GB with ZeRO-3, all weights; mIoU 61.7 without and 62.1 with a thought, R1@0.5 73.6 and 74.1.
# All weights with gradients and Adam are 133 GB; on one GPU of 80 GB add model.adapter.rank=64, and expect about 15 hours
# per epoch (an estimate: 35 s a step). Not yet run on one, so no result stands here.
# usage: scripts/train_tempsamp_charades.sh TRAIN TEST VIDEOS [key=value ...] [--resume] [--dry-run]
#   TRAIN   charades_sta_train.txt of https://github.com/jiyanggao/TALL; TEST: its charades_sta_test.txt
#   VIDEOS  the folder of Charades' videos, https://prior.allenai.org/projects/charades
inputs=(train=charades-sta/charades_sta_train.txt test=charades-sta/charades_sta_train.txt videos=charades-sta/videos)
base=Qwen/Qwen2.5-VL-7B-Instruct
source "$(dirname "$0")/start_training.sh"

for split in train test; do
  make data/charades/$split.jsonl convert charades-sta "${!split}" "media=$videos" style=answer split=$split
  make data/charades_think/$split.jsonl convert charades-sta "${!split}" "media=$videos" style=think split=$split
done
train configs/papers/tempsamp_charades.yaml
train configs/papers/tempsamp_charades_think.yaml
evaluate runs/tempsamp_charades_think data/charades/test.jsonl --metrics grounding
evaluate runs/tempsamp_charades_think data/charades_think/test.jsonl --metrics grounding
