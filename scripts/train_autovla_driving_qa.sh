#!/usr/bin/env bash
# Fast and slow thinking after AutoVLA on driving questions with options, Qwen2.5-VL-3B (configs/papers/
# autovla_driving_qa_sft.yaml, autovla_driving_qa.yaml). Trajectories and their simulator are out of scope: docs/methods/
# autovla.md. Written for one GPU of 80 GB, about 1 + 4 hours (an estimate: 30 s a step). Not yet run on one.
# usage: scripts/train_autovla_driving_qa.sh CHATS.jsonl TRAIN.jsonl TEST.jsonl [key=value ...] [--dry-run]
# All are in the form of docs/data.md: CHATS end in an assistant turn `<think>...</think><answer>B</answer>`, the others
# have `target.answer`, a letter.
set -euo pipefail
cd "$(dirname "$0")/.."
chats=${1:?chats with thoughts} train=${2:?questions to train on} test=${3:?questions held out}
shift 3
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

[ -f data/autovla/dropped.jsonl ] || mmrl data transform "$chats" drop-thoughts share=0.5 --out data/autovla/dropped.jsonl
[ -f data/autovla/two_modes.jsonl ] ||
  mmrl data transform data/autovla/dropped.jsonl name-modes --out data/autovla/two_modes.jsonl
[ -f data/autovla/train.jsonl ] || mmrl data convert rows "$train" --out data/autovla/train.jsonl
[ -f data/autovla/test.jsonl ] || mmrl data convert rows "$test" --out data/autovla/test.jsonl
[ -d models/autovla-sft ] || [[ " $* " == *" --dry-run "* ]] || mmrl sft configs/papers/autovla_driving_qa_sft.yaml
mmrl train configs/papers/autovla_driving_qa.yaml "$@"
