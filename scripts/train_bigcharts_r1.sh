#!/usr/bin/env bash
# BigCharts-R1 with Qwen2.5-VL-3B: supervised on thoughts about charts, then an epoch of GRPO (configs/papers/bigcharts_r1_sft.yaml,
# bigcharts_r1.yaml), then ChartQA. The paper: 8 GPUs; ChartQA 88.2, mean of its benchmarks 59.2 -> 68.7 (SFT) -> 72.1. All
# weights with gradients, Adam and the reference are 75 GB; on one GPU of 80 GB add model.adapter.rank=64, and expect about 15
# hours (an estimate: 50 s a step of GRPO). Not yet run on one, so no result stands here.
# usage: scripts/train_bigcharts_r1.sh CHATS QUESTIONS CHARTQA CHARTQA_IMAGES [key=value ...] [--resume] [--dry-run]
#   CHATS           rows of docs/data.md whose last turn is <thinking>..</thinking><answer>..</answer>
#   QUESTIONS       rows {problem, solution, image}, with pictures relative to their folder. The paper's data are not published;
#                   FigureQA, PlotQA and DVQA can be read instead (docs/data_charts.md)
#   CHARTQA         test_human.json of https://github.com/vis-nlp/ChartQA; CHARTQA_IMAGES: the folder png beside it
inputs=(chats=rows/chats.jsonl questions=bigcharts/train.jsonl chartqa=chartqa/test_human.json images=chartqa/png)
base=Qwen/Qwen2.5-VL-3B-Instruct
source "$(dirname "$0")/start_training.sh"

data=data/bigcharts
make $data/sft.jsonl convert rows "$chats"
make $data/train.jsonl convert bigcharts "$questions" "media=$(dirname "$questions")"
make $data/chartqa.jsonl convert chartqa "$chartqa" "media=$images" prompt=bigcharts
cold_start models/bigcharts-r1-sft configs/papers/bigcharts_r1_sft.yaml
train configs/papers/bigcharts_r1.yaml
evaluate runs/bigcharts_r1 $data/chartqa.jsonl --metrics relaxed_accuracy
