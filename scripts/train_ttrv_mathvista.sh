#!/usr/bin/env bash
# TTRV with Qwen2.5-VL-3B on 20 unlabelled multiple-choice questions of MathVista (configs/papers/ttrv_mathvista.yaml),
# then accuracy on all of them, before and after. Written for one GPU of 80 GB, under 1 hour (the paper: 4 minutes on its
# machine with a vLLM); not yet run on one, so no result stands here. The labels are read by metrics only.
# usage: scripts/train_ttrv_mathvista.sh TESTMINI IMAGES [key=value ...] [--resume] [--dry-run]
#   TESTMINI  testmini.json of MathVista, https://huggingface.co/datasets/AI4Math/MathVista: its rows by pid
#   IMAGES    the folder that holds its images/
inputs=(annotations=mathvista/testmini.json images=mathvista)
source "$(dirname "$0")/start_training.sh"

data=data/mathvista
make $data/all.jsonl convert mathvista "$annotations" "media=$images" \
  'prompt="{question}\nAnswer with the letter of the right option only, without an explanation."'
[ -f $data/choices.jsonl ] || grep '"options"' $data/all.jsonl > $data/choices.jsonl
draw 20 $data/choices.jsonl $data/ttrv_20.jsonl
train configs/papers/ttrv_mathvista.yaml
for model in Qwen/Qwen2.5-VL-3B-Instruct runs/ttrv_mathvista/checkpoints/step-*/model; do
  evaluate "$model" $data/choices.jsonl --config configs/papers/ttrv_mathvista_eval.yaml
done
