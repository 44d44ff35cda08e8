#!/usr/bin/env bash
# UAV-VL-R1 on HRVQA with Qwen2-VL-2B: a cold start, then three stages of GRPO, each from the one before it
# (configs/papers/uav_vl_r1_sft.yaml, uav_vl_r1_1_attributes.yaml, 2_objects, 3_relations). The paper: +48.17 % accuracy without
# examples over the base model. All weights with gradients, Adam and the reference are 44 GB: one GPU of 80 GB, about 12
# hours per stage (an estimate: 20 s a step). Not yet run on one, so no result stands here.
# usage: scripts/train_uav_vl_r1_hrvqa.sh JSONS_FOLDER IMAGES_FOLDER [key=value ...] [--dry-run]
set -euo pipefail
cd "$(dirname "$0")/.."
jsons=${1:?the folder of train_question.json, train_answer.json, val_...} images=${2:?the folder of 1.png, 2.png, ...}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"
data=data/hrvqa

convert() { # NAME ROWS SPLIT TYPES: so many questions of these types, drawn evenly
  [ -f $data/$1.jsonl ] && return
  mmrl data convert hrvqa "$jsons" "images=$images" "split=$3" "types=$4" --out $data/$1.all.jsonl
  shuf -n "$2" --random-source=<(yes 0) $data/$1.all.jsonl > $data/$1.jsonl
}
convert attributes 16673 train '[color, shape, size]'
convert objects 16673 train '[numbers, yes no, transportation, sports]'
convert relations 16673 train '[location, scene, areas]'
convert test 2000 val '[color, shape, size, numbers, yes no, transportation, sports, location, scene, areas]'
stages="1_attributes 2_objects 3_relations"
if [[ " $* " == *" --dry-run "* ]]; then
  for stage in $stages; do mmrl train configs/papers/uav_vl_r1_$stage.yaml model.path=Qwen/Qwen2-VL-2B-Instruct "$@"; done
  exit
fi
if [ ! -d models/uav-vl-r1-sft ]; then
  cat $data/attributes.jsonl $data/objects.jsonl $data/relations.jsonl | shuf -n 2000 --random-source=<(yes 0) > $data/cold.jsonl
  mmrl data traces $data/cold.jsonl --model Qwen/Qwen2-VL-2B-Instruct --config configs/papers/uav_vl_r1_1_attributes.yaml \
    --out $data/traces.jsonl
  mmrl sft configs/papers/uav_vl_r1_sft.yaml
fi
for stage in $stages; do mmrl train configs/papers/uav_vl_r1_$stage.yaml "$@"; done
mmrl eval runs/uav_vl_r1_3_relations $data/test.jsonl --metrics exact_match,normalise=vqa
