#!/usr/bin/env bash
# OThink-MR1 (GRPO-D) on counting and on geometry with Qwen2-VL-2B (configs/papers/othink_mr1_clevr.yaml,
# othink_mr1_geoqa.yaml). The paper: right answers 76.5 on SuperCLEVR (GRPO 64.5) and 34.35 on GeoQA (30.24). All weights
# with gradients, Adam and the reference are 44 GB: one GPU of 80 GB, about 4 hours each (an estimate: 25 s a step). Not yet
# run on one, so no result stands here.
# usage: scripts/train_othink_mr1_clevr.sh CLEVR SUPERCLEVR GEOQA GEOQA_TEST [key=value ...] [--resume] [--dry-run]
#   JSON Lines of {image, problem, solution} with picture files relative to their folders, from the data of R1-V,
#   https://github.com/StarsfieldAI/R1-V: clevr_cogen_a_train, 200 questions of SuperCLEVR, GEOQA_R1V_Train_8K, GeoQA's test
inputs=(clevr=bigcharts/train.jsonl superclevr=bigcharts/train.jsonl geoqa=bigcharts/train.jsonl geoqa_test=bigcharts/train.jsonl)
source "$(dirname "$0")/start_training.sh"

for name in clevr superclevr geoqa geoqa_test; do
  make data/r1v/$name.jsonl convert bigcharts "${!name}" "media=$(dirname "${!name}")" \
    'prompt="{question}\nThink first, inside <think> and </think> tags, then give the final answer inside <answer> and </answer> tags."'
done
train configs/papers/othink_mr1_clevr.yaml
train configs/papers/othink_mr1_geoqa.yaml
evaluate runs/othink_mr1_clevr data/r1v/superclevr.jsonl --metrics exact_match
evaluate runs/othink_mr1_geoqa data/r1v/geoqa_test.jsonl --metrics math_answer
