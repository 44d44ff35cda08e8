#!/usr/bin/env bash
# DeepVideo-R1 on SEED-Bench-R1 with Qwen2.5-VL-3B (configs/papers/deepvideo_r1_seed_bench_r1.yaml), then the share of right
# letters. The paper: A100s, about 2,000 steps; 48.1 / 51.1 / 44.0 on its levels 1 to 3 (GRPO 39.6 / 41.0 / 35.4). The
# language model's weights with gradients, Adam and the reference are 58 GB: one GPU of 80 GB, about 25 hours (an estimate: 45 s a
# step, half of it completing changed prompts). Not yet run on one, so no result stands here.
# usage: scripts/train_deepvideo_r1_seed_bench_r1.sh TRAIN TEST MEDIA [key=value ...] [--resume] [--dry-run]
#   TRAIN  training_6k.jsonl of https://huggingface.co/datasets/TencentARC/SEED-Bench-R1
#   TEST   one of its validation files, of one level or all; MEDIA: the folder of its videos/ and images/
inputs=(train=seed-bench-r1/training_6k.jsonl test=seed-bench-r1/validation_L1.jsonl media=seed-bench-r1)
source "$(dirname "$0")/start_training.sh"

data=data/seed_bench_r1
make $data/train.jsonl convert seed-bench-r1 "$train" "media=$media"
make $data/test.jsonl convert seed-bench-r1 "$test" "media=$media"
train configs/papers/deepvideo_r1_seed_bench_r1.yaml
evaluate runs/deepvideo_r1_seed_bench_r1 $data/test.jsonl --metrics letter_choice
