#!/usr/bin/env bash
# TempSamp-R1 on Charades-STA with Qwen2.5-VL-7B: an epoch without and an epoch with a thought
# (configs/papers/tempsamp_charades.yaml, tempsamp_charades_think.yaml), then both modes of inference on the test set.
# The paper: 4 x A100 80 GB with ZeRO-3, all weights; mIoU 61.7 without and 62.1 with a thought, R1@0.5 73.6 and 74.1.
# All weights with gradients and Adam are 133 GB; on one GPU of 80 GB add model.adapter.rank=64, and expect about 15 hours
# per epoch (an estimate: 35 s a step). Not yet run on one, so no result stands here.
# usage: scripts/train_tempsamp_charades.sh CHARADES_STA_FOLDER VIDEOS_FOLDER [key=value ...] [--dry-run]
set -euo pipefail
cd "$(dirname "$0")/.."
annotations=${1:?the folder of charades_sta_train.txt and charades_sta_test.txt} videos=${2:?the folder of the videos}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

for style in answer think; do
  folder=data/charades$([ $style = think ] && echo _think || true)
  for split in train test; do
    [ -f "$folder/$split.jsonl" ] ||
      mmrl data convert charades-sta "$annotations/charades_sta_$split.txt" "media=$videos" style=$style \
        --out "$folder/$split.jsonl"
  done
done
mmrl train configs/papers/tempsamp_charades.yaml "$@"
[[ " $* " == *" --dry-run "* ]] && exit
mmrl train configs/papers/tempsamp_charades_think.yaml "$@"
mmrl eval runs/tempsamp_charades_think data/charades/test.jsonl --metrics grounding
mmrl eval runs/tempsamp_charades_think data/charades_think/test.jsonl --metrics grounding
