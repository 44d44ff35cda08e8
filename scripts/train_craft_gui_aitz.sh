#!/usr/bin/env bash
# A curriculum over AITZ with Qwen2.5-VL-3B, short tasks first (configs/papers/craft_gui_aitz.yaml). CRAFT-GUI's own data and
# constants are not public; this is its idea on data that is. Written for 8 GPUs of 80 GB, about 3 hours (an estimate: 35 s a
# step). Not yet run on them, so no result stands here.
# usage: scripts/train_craft_gui_aitz.sh AITZ_TRAIN AITZ_TEST [key=value ...] [--dry-run]
set -euo pipefail
cd "$(dirname "$0")/.."
train=${1:?the folder train of AITZ} test=${2:?the folder test of AITZ}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

[ -f data/aitz/curriculum.jsonl ] ||
  mmrl data convert aitz "$train" "media=$train" --out data/aitz/curriculum.jsonl
[ -f data/aitz/test.jsonl ] ||
  mmrl data convert aitz "$test/general" "media=$test" split=test --out data/aitz/test.jsonl
mmrl train configs/papers/craft_gui_aitz.yaml "$@"
[[ " $* " == *" --dry-run "* ]] || mmrl eval runs/craft_gui_aitz data/aitz/test.jsonl --metrics aitz
