#!/usr/bin/env bash
# TW-GRPO on CLEVRER's counterfactual questions with Qwen2.5-VL-7B (configs/papers/tw_grpo_clevrer.yaml), then the share of
# right sets of options on the validation set. The paper: 2 x H800 80 GB with ZeRO-3 and CPU offload, about 4 hours for the
# 500 steps it reports; 50.4 (GRPO 41.1). The language model's weights with gradients and Adam are 122 GB; on one GPU of
# 80 GB add model.adapter.rank=64, and expect about 4 hours for 500 steps (an estimate: 25 s a step). Not yet run on one, so
# no result stands here.
# usage: scripts/train_tw_grpo_clevrer.sh CLEVRER_FOLDER VIDEOS_FOLDER [key=value ...] [--dry-run]
set -euo pipefail
cd "$(dirname "$0")/.."
annotations=${1:?the folder of train.json and validation.json} videos=${2:?the folder of the videos}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

for split in train validation; do
  [ -f data/clevrer/$split.jsonl ] ||
    mmrl data convert clevrer "$annotations/$split.json" "media=$videos" 'types=[counterfactual]' style=think \
      --out data/clevrer/$split.jsonl
done
mmrl train configs/papers/tw_grpo_clevrer.yaml "$@"
[[ " $* " == *" --dry-run "* ]] ||
  mmrl eval runs/tw_grpo_clevrer data/clevrer/validation.jsonl --metrics soft_choices,partial=false
