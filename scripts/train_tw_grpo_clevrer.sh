#!/usr/bin/env bash
# TW-GRPO on CLEVRER's counterfactual questions with Qwen2.5-VL-7B (configs/papers/tw_grpo_clevrer.yaml), then the share of
# right sets of options on the validation set. The paper: 2 x H800 80 GB with ZeRO-3 and CPU offload, about 4 hours for the
# 500 steps it reports; 50.4 (GRPO 41.1). The language model's weights with gradients and Adam are 122 GB; on one GPU of
# 80 GB add model.adapter.rank=64, and expect about 4 hours for 500 steps (an estimate: 25 s a step). Not yet run on one, so
# no result stands here.
# usage: scripts/train_tw_grpo_clevrer.sh TRAIN VALIDATION VIDEOS [key=value ...] [--resume] [--dry-run]
#   TRAIN   train.json of http://clevrer.csail.mit.edu; VALIDATION: its validation.json
#   VIDEOS  the folder of its videos
inputs=(train=clevrer/validation.json validation=clevrer/validation.json videos=clevrer/videos)
source "$(dirname "$0")/start_training.sh"

for split in train validation; do
  make data/clevrer/$split.jsonl convert clevrer "${!split}" "media=$videos" 'types=[counterfactual]' style=think split=$split
done
train configs/papers/tw_grpo_clevrer.yaml
evaluate runs/tw_grpo_clevrer data/clevrer/validation.jsonl --metrics soft_choices,partial=false
