#!/usr/bin/env bash
# DeepVideo-R1 on SEED-Bench-R1 with Qwen2.5-VL-3B (configs/papers/deepvideo_r1_seed_bench_r1.yaml), then the share of right
# letters. The paper: A100s, about 2,000 steps; 48.1 / 51.1 / 44.0 on its levels 1 to 3 (GRPO 39.6 / 41.0 / 35.4). The
# language model's weights with gradients, Adam and the reference are 58 GB: one GPU of 80 GB, about 25 hours (an estimate: 45 s a
# step, half of it completing changed prompts). Not yet run on one, so no result stands here.
# usage: scripts/train_deepvideo_r1_seed_bench_r1.sh TRAINING_6K_JSONL VALIDATION_JSONL MEDIA_FOLDER [key=value ...] [--dry-run]
set -euo pipefail
cd "$(dirname "$0")/.."
train=${1:?training_6k.jsonl} test=${2:?a validation file, of one level or all} media=${3:?the folder of videos/ and images/}
shift 3
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

[ -f data/seed_bench_r1/train.jsonl ] ||
  mmrl data convert seed-bench-r1 "$train" "media=$media" --out data/seed_bench_r1/train.jsonl
[ -f data/seed_bench_r1/test.jsonl ] ||
  mmrl data convert seed-bench-r1 "$test" "media=$media" --out data/seed_bench_r1/test.jsonl
mmrl train configs/papers/deepvideo_r1_seed_bench_r1.yaml "$@"
[[ " $* " == *" --dry-run "* ]] ||
  mmrl eval runs/deepvideo_r1_seed_bench_r1 data/seed_bench_r1/test.jsonl --metrics letter_choice
