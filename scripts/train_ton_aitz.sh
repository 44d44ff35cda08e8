#!/usr/bin/env bash
# TON on AITZ with Qwen2.5-VL-3B: a cold start with dropped thoughts (under 15 minutes in the paper), then 100 steps of
# GRPO (configs/papers/ton_aitz_sft.yaml, ton_aitz.yaml). The paper's hardware is 8 x 96 GB; written for GPUs of 80 GB
# or more, about 2 hours in all on 8 of them. Not yet run on one, so no result stands here.
# usage: scripts/train_ton_aitz.sh AITZ_TRAIN AITZ_TEST [key=value ...]      (the folders that hold general/, install/, ...)
set -euo pipefail
cd "$(dirname "$0")/.."
train=${1:?the folder train of AITZ} test=${2:?the folder test of AITZ}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

if [ ! -f data/aitz/train.jsonl ]; then
  mmrl data convert aitz "$train/general" "media=$train" answers=true --out data/aitz/all.jsonl
  shuf -n 1000 --random-source=<(yes 0) data/aitz/all.jsonl > data/aitz/train.jsonl
fi
[ -f data/aitz/dropped.jsonl ] ||
  mmrl data transform data/aitz/train.jsonl drop-thoughts share=0.5 --out data/aitz/dropped.jsonl
[ -f data/aitz/test.jsonl ] ||
  mmrl data convert aitz "$test/general" "media=$test" split=test --out data/aitz/test.jsonl
[ -d models/ton-aitz-sft ] || mmrl sft configs/papers/ton_aitz_sft.yaml
mmrl train configs/papers/ton_aitz.yaml "$@"
[[ " $* " == *" --dry-run "* ]] || mmrl eval runs/ton_aitz data/aitz/test.jsonl --metrics aitz --metrics thoughts
