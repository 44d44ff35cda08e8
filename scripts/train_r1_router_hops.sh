#!/usr/bin/env bash
# R1-Router's Step-GRPO with Qwen2.5-VL-7B on recorded chains of retrieval (configs/papers/r1_router_hops.yaml); queries are
# compared by BAAI/bge-m3. Written for 8 GPUs of 80 GB, about 10 hours (an estimate: 90 s a step). Not yet run on them.
# usage: scripts/train_r1_router_hops.sh CHAINS.jsonl IMAGES_FOLDER [key=value ...] [--dry-run]
# CHAINS.jsonl: {"images": ["q.png"], "steps": [{"step_type": "ret", "problem": "...", "answer": {"query": "...",
#   "retriever": ["text retriever"]}}, {"step_type": "ans", "problem": "...", "answer": "Eiffel"}]} a line.
set -euo pipefail
cd "$(dirname "$0")/.."
chains=${1:?the JSON Lines file of chains} images=${2:?the folder of their images}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

[ -f data/hops/train.jsonl ] || mmrl data convert hops "$chains" "media=$images" --out data/hops/train.jsonl
mmrl train configs/papers/r1_router_hops.yaml "$@"
