#!/usr/bin/env bash
# TON on AITZ with Qwen2.5-VL-3B: a cold start with dropped thoughts (under 15 minutes in the paper), then 100 steps of
# GRPO (configs/papers/ton_aitz_sft.yaml, ton_aitz.yaml). The paper's hardware is 8 x 96 GB; written for GPUs of 80 GB
# or more, about 2 hours in all on 8 of them. Not yet run on one, so no result stands here.
# usage: scripts/train_ton_aitz.sh TRAIN TEST [key=value ...] [--resume] [--dry-run]
#   TRAIN  the folder general in train/ of AITZ, https://github.com/IMNearth/CoAT
#   TEST   the folder general in its test/
inputs=(train=aitz/google_apps test=aitz/google_apps)
base=Qwen/Qwen2.5-VL-3B-Instruct
source "$(dirname "$0")/start_training.sh"

data=data/aitz
make $data/all.jsonl convert aitz "$train" "media=$(dirname "$train")" answers=true
draw 1000 $data/all.jsonl $data/train.jsonl
make $data/dropped.jsonl transform $data/train.jsonl drop-thoughts share=0.5
make $data/test.jsonl convert aitz "$test" "media=$(dirname "$test")" split=test
cold_start models/ton-aitz-sft configs/papers/ton_aitz_sft.yaml
train configs/papers/ton_aitz.yaml
evaluate runs/ton_aitz $data/test.jsonl --metrics aitz --metrics thoughts
