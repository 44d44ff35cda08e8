#!/usr/bin/env bash
# OThink-MR1 (GRPO-D) on counting and on geometry with Qwen2-VL-2B (configs/papers/othink_mr1_clevr.yaml,
# othink_mr1_geoqa.yaml). The paper: right answers 76.5 on SuperCLEVR (GRPO 64.5) and 34.35 on GeoQA (30.24). All weights
# with gradients, Adam and the reference are 44 GB: one GPU of 80 GB, about 4 hours each (an estimate: 25 s a step). Not yet
# run on one, so no result stands here.
# FOLDER holds R1-V's data as JSON Lines of {image, problem, solution} with picture files: clevr.jsonl, superclevr.jsonl,
# geoqa.jsonl, geoqa_test.jsonl.
# usage: scripts/train_othink_mr1_clevr.sh FOLDER [key=value ...] [--dry-run]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?the folder of the JSON Lines and their pictures}
shift
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

ask='prompt="{question}\nThink first, inside <think> and </think> tags, then give the final answer inside <answer> and </answer> tags."'
for name in clevr superclevr geoqa geoqa_test; do
  [ -f data/r1v/$name.jsonl ] ||
    mmrl data convert bigcharts "$folder/$name.jsonl" "media=$folder" "$ask" --out data/r1v/$name.jsonl
done
mmrl train configs/papers/othink_mr1_clevr.yaml "$@"
mmrl train configs/papers/othink_mr1_geoqa.yaml "$@"
[[ " $* " == *" --dry-run "* ]] && exit
mmrl eval runs/othink_mr1_clevr data/r1v/superclevr.jsonl --metrics exact_match
mmrl eval runs/othink_mr1_geoqa data/r1v/geoqa_test.jsonl --metrics math_answer
