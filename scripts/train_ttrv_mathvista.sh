#!/usr/bin/env bash
# TTRV with Qwen2.5-VL-3B on 20 unlabelled multiple-choice questions of MathVista (configs/papers/ttrv_mathvista.yaml),
# then accuracy on all of them, before and after. Written for one 80 GB GPU, under 1 hour (the paper: 4 minutes on its
# machine with a vLLM); not yet run on one, so no result stands here. The labels are read by metrics only.
# usage: scripts/train_ttrv_mathvista.sh TESTMINI.json IMAGES_FOLDER [key=value ...]
set -euo pipefail
cd "$(dirname "$0")/.."
annotations=${1:?testmini.json of MathVista} images=${2:?the folder that holds its images/}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"
data=data/mathvista

[ -f $data/all.jsonl ] || mmrl data convert mathvista "$annotations" "media=$images" \
  'prompt="{question}\nAnswer with the letter of the right option only, without an explanation."' --out $data/all.jsonl
[ -f $data/choices.jsonl ] || grep '"options"' $data/all.jsonl > $data/choices.jsonl
[ -f $data/ttrv_20.jsonl ] || shuf -n 20 --random-source=<(yes 0) $data/choices.jsonl > $data/ttrv_20.jsonl
mmrl train configs/papers/ttrv_mathvista.yaml "$@"
[[ " $* " == *" --dry-run "* ]] && exit
for model in Qwen/Qwen2.5-VL-3B-Instruct runs/ttrv_mathvista/checkpoints/step-*/model; do
  mmrl eval "$model" $data/choices.jsonl --config configs/papers/ttrv_mathvista_eval.yaml
done
