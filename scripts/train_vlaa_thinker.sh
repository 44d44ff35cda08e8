#!/usr/bin/env bash
# VLAA-Thinker with Qwen2.5-VL-3B on VLAA-Thinking's 25,195 questions for reinforcement (configs/papers/vlaa_thinker.yaml).
# The paper: 8 x H100, 49 steps; average of six benchmarks 31.8 -> 35.4. All weights with gradients, Adam and the reference are
# 75 GB; on one GPU of 80 GB add model.adapter.rank=64, and expect about 20 hours (an estimate: 25 minutes a step). Not yet run
# on one, so no result stands here. Open questions need a judge at http://127.0.0.1:8000 (docs/reward_servers.md), or
#   rewards.4.scorer='{name: judge.py:score}'
# usage: scripts/train_vlaa_thinker.sh QUESTIONS IMAGES [key=value ...] [--resume] [--dry-run]
#   QUESTIONS  the JSON list or JSON Lines for reinforcement of https://huggingface.co/datasets/UCSC-VLAA/VLAA-Thinking
#   IMAGES     the folder that their pictures are named from
#   KINDS='{docvqa: open, ...}' in the environment replaces the reader's map from folders of pictures to kinds
inputs=(questions=vlaa/kinds.json images=vlaa)
sample_settings=('rewards.4.scorer={name: token_recall}') # instead of a judge
source "$(dirname "$0")/start_training.sh"

make data/vlaa/train.jsonl convert vlaa "$questions" "media=$images" ${KINDS:+"kinds=$KINDS"}
train configs/papers/vlaa_thinker.yaml
