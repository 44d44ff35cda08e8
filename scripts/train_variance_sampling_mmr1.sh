#!/usr/bin/env bash
# MMR1-7B by GRPO with variance-aware sampling on MMR1-RL (configs/papers/variance_sampling_mmr1.yaml). It begins with
# models/mmr1-7b-sft: the cold start that MMR1 published, or one of yours (`mmrl sft`). Written for 8 GPUs of 80 GB, about
# 60 hours at 5,000 generated tokens per second and GPU (5.5 M completions of 1,000 tokens, 4.3 M of them in the nine
# passes that complete every prompt 32 times; sampler.refresh=0 does without). Not yet run on them: no result stands here.
# usage: scripts/train_variance_sampling_mmr1.sh PROBLEMS IMAGES [key=value ...] [--resume] [--dry-run]
#   PROBLEMS  [{"problem": "<image>...", "answer": "16", "images": ["geo/17.png"]}, ...] from the rows of
#             https://huggingface.co/datasets/MMR1/MMR1-RL
#   IMAGES    the folder of their pictures
inputs=(problems=mmr1/problems.json images=mmr1)
source "$(dirname "$0")/start_training.sh"

data=data/mmr1
mkdir -p $data
# One image each, under the names that the reader of {problem, solution, image} knows.
[ -f $data/problems.json ] || python -c 'import json, sys
rows = [row for row in json.load(open(sys.argv[1])) if len(row["images"]) == 1]
json.dump([{"problem": r["problem"], "solution": r["answer"], "image": r["images"][0]} for r in rows], sys.stdout)
' "$problems" > $data/problems.json
make $data/train.jsonl convert bigcharts $data/problems.json "media=$images" split=train "$ask_for_boxed"
train configs/papers/variance_sampling_mmr1.yaml
