#!/usr/bin/env bash
# GCPO on Geometry3K with Qwen2.5-VL-3B (configs/papers/geometryzero_geometry3k.yaml). The paper trains text-only models of
# 1.5 to 7 B; here the diagram is seen. Written for 4 GPUs of 80 GB, about 5 hours (an estimate: 45 s a step). Not yet run.
# usage: scripts/train_geometryzero_geometry3k.sh PROBLEMS.json IMAGES_FOLDER [key=value ...] [--dry-run]
# PROBLEMS.json: [{"problem": "<image>Find x.", "solution": "12", "image": "geo/17.png"}, ...].
set -euo pipefail
cd "$(dirname "$0")/.."
problems=${1:?the JSON list of problems} images=${2:?the folder of their images}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

[ -f data/geometry3k/train.jsonl ] ||
  mmrl data convert bigcharts "$problems" "media=$images" split=train --out data/geometry3k/train.jsonl \
    'prompt="{question}\nReason inside <think> </think>, then write <answer> </answer> with the result in \\boxed{}."'
mmrl train configs/papers/geometryzero_geometry3k.yaml "$@"
