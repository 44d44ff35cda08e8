#!/usr/bin/env bash
# MMR1-7B by GRPO with variance-aware sampling on MMR1-RL (configs/papers/variance_sampling_mmr1.yaml). It begins with
# models/mmr1-7b-sft: the cold start that MMR1 published, or one of yours (`mmrl sft`). Written for 8 GPUs of 80 GB, about
# 60 hours at 5,000 generated tokens per second and GPU (5.5 M completions of 1,000 tokens, 4.3 M of them in the nine
# passes that complete every prompt 32 times; sampler.refresh=0 does without). Not yet run on them: no result stands here.
# usage: scripts/train_variance_sampling_mmr1.sh MMR1_RL.json IMAGES_FOLDER [key=value ...]
# MMR1_RL.json is a list of {"problem": "<image>...", "answer": "16", "images": ["geo/17.png"]}.
set -euo pipefail
cd "$(dirname "$0")/.."
problems=${1:?the JSON list of problems} images=${2:?the folder of their images}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

if [ ! -f data/mmr1/train.jsonl ]; then
  mkdir -p data/mmr1
  # One image each, under the names that the reader of {problem, solution, image} knows.
  python -c 'import json, sys
rows = [row for row in json.load(open(sys.argv[1])) if len(row["images"]) == 1]
json.dump([{"problem": r["problem"], "solution": r["answer"], "image": r["images"][0]} for r in rows], sys.stdout)
' "$problems" > data/mmr1/problems.json
  mmrl data convert bigcharts data/mmr1/problems.json "media=$images" split=train --out data/mmr1/train.jsonl \
    'prompt="{question}\nReason inside <think> </think>, then write <answer> </answer> with the result in \\boxed{}."'
fi
mmrl train configs/papers/variance_sampling_mmr1.yaml "$@"
