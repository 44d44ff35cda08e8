#!/usr/bin/env bash
# BigCharts-R1 with Qwen2.5-VL-3B: supervised on thoughts about charts, then an epoch of GRPO (configs/papers/bigcharts_r1_sft.yaml,
# bigcharts_r1.yaml), then ChartQA. The paper: 8 GPUs; ChartQA 88.2, mean of its benchmarks 59.2 -> 68.7 (SFT) -> 72.1. All
# weights with gradients, Adam and the reference are 75 GB; on one GPU of 80 GB add model.adapter.rank=64, and expect about 15
# hours (an estimate: 50 s a step of GRPO). Not yet run on one, so no result stands here.
# usage: scripts/train_bigcharts_r1.sh SFT_CHATS TRAIN_JSON CHARTQA_JSON CHARTQA_IMAGES [key=value ...] [--dry-run]
#   SFT_CHATS   chats in mmrl's format (docs/data.md) whose last turn is <thinking>..</thinking><answer>..</answer>
#   TRAIN_JSON  rows {problem, solution, image}, with pictures relative to its folder
set -euo pipefail
cd "$(dirname "$0")/.."
chats=${1:?chats for the first stage} train=${2:?rows for the second} chartqa=${3:?test_human.json} images=${4:?its png folder}
shift 4
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"
data=data/bigcharts

[ -f $data/sft.jsonl ] || mmrl data convert rows "$chats" --out $data/sft.jsonl
[ -f $data/train.jsonl ] || mmrl data convert bigcharts "$train" "media=$(dirname "$train")" --out $data/train.jsonl
[ -f $data/chartqa.jsonl ] ||
  mmrl data convert chartqa "$chartqa" "media=$images" prompt=bigcharts --out $data/chartqa.jsonl
if [[ " $* " == *" --dry-run "* ]]; then
  mmrl train configs/papers/bigcharts_r1.yaml model.path=Qwen/Qwen2.5-VL-3B-Instruct "$@"
  exit
fi
[ -d models/bigcharts-r1-sft ] || mmrl sft configs/papers/bigcharts_r1_sft.yaml
mmrl train configs/papers/bigcharts_r1.yaml "$@"
mmrl eval runs/bigcharts_r1 $data/chartqa.jsonl --metrics relaxed_accuracy
