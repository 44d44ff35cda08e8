#!/usr/bin/env bash
# UAV-VL-R1 on HRVQA with Qwen2-VL-2B: a cold start, then three stages of GRPO, each from the one before it
# (configs/papers/uav_vl_r1_sft.yaml, uav_vl_r1_1_attributes.yaml, 2_objects, 3_relations). The paper: +48.17 % accuracy without
# examples over the base model. All weights with gradients, Adam and the reference are 44 GB: one GPU of 80 GB, about 12
# hours per stage (an estimate: 20 s a step). Not yet run on one, so no result stands here.
# usage: scripts/train_uav_vl_r1_hrvqa.sh JSONS IMAGES [key=value ...] [--resume] [--dry-run]
#   JSONS   the folder of train_question.json, train_answer.json, val_question.json and val_answer.json of HRVQA, https://hrvqa.nl
#   IMAGES  the folder of its pictures 1.png, 2.png, ...
inputs=(jsons=hrvqa images=hrvqa/images)
base=Qwen/Qwen2-VL-2B-Instruct
sample_settings=(data.budget.max_pixels=65536) # the tiny model has a token for every 256 pixels, Qwen2-VL for every 784
source "$(dirname "$0")/start_training.sh"

data=data/hrvqa
questions() { # NAME COUNT SPLIT TYPES: so many questions of these types, drawn evenly
  make $data/$1.all.jsonl convert hrvqa "$jsons" "images=$images" "split=$3" "types=$4"
  draw "$2" $data/$1.all.jsonl $data/$1.jsonl
}
questions attributes 16673 train '[color, shape, size]'
questions objects 16673 train '[numbers, yes no, transportation, sports]'
questions relations 16673 train '[location, scene, areas]'
questions test 2000 val '[color, shape, size, numbers, yes no, transportation, sports, location, scene, areas]'

draw 2000 $data/attributes.jsonl $data/objects.jsonl $data/relations.jsonl $data/cold.jsonl
stand_in $data/traces.jsonl "$samples/rows/chats.jsonl"
make $data/traces.jsonl traces $data/cold.jsonl --model Qwen/Qwen2-VL-2B-Instruct --config configs/papers/uav_vl_r1_1_attributes.yaml
cold_start models/uav-vl-r1-sft configs/papers/uav_vl_r1_sft.yaml
for stage in 1_attributes 2_objects 3_relations; do train configs/papers/uav_vl_r1_$stage.yaml; done
evaluate runs/uav_vl_r1_3_relations $data/test.jsonl --metrics exact_match,normalise=vqa
