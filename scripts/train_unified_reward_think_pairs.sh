#!/usr/bin/env bash
# UnifiedReward-Think with Qwen2.5-VL-7B on pairs of pictures: cold start, rejection sampling, GRPO on what was judged wrongly
# (configs/papers/unified_reward_think_sft.yaml, unified_reward_think.yaml). Written for 8 GPUs of 80 GB, about 1 + 3 + 8
# hours (an estimate). Not yet run on them, so no result stands here.
# usage: scripts/train_unified_reward_think_pairs.sh CHATS.jsonl PAIRS.json TEST_PAIRS.json IMAGES [key=value ...] [--dry-run]
# CHATS.jsonl is in the form of docs/data.md and ends in <think>...</think><answer>Image 1 is better</answer>;
# pairs are [{"problem": "...", "solution": "Image 1 is better", "images": ["a.png", "b.png"]}, ...].
set -euo pipefail
cd "$(dirname "$0")/.."
chats=${1:?chats with thoughts} pairs=${2:?the JSON list of pairs} test=${3:?pairs held out} images=${4:?their folder}
shift 4
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"
recipe=configs/papers/unified_reward_think.yaml sft=configs/papers/unified_reward_think_sft.yaml

for split in train test; do
  [ -f data/preferences/$split.jsonl ] ||
    mmrl data convert preferences "$([ $split = train ] && echo "$pairs" || echo "$test")" "media=$images" \
      split=$split --out data/preferences/$split.jsonl
done
if [[ " $* " != *" --dry-run "* ]]; then
  [ -d models/unified-reward-sft ] || mmrl sft $sft "data.train=$chats"
  [ -f data/preferences/wrong.jsonl ] ||
    mmrl data reject data/preferences/train.jsonl --config $recipe --model models/unified-reward-sft \
      --metric verdict --out data/preferences/right.jsonl --wrong data/preferences/wrong.jsonl
  [ -d models/unified-reward-rejection ] ||
    mmrl sft $sft model.path=models/unified-reward-sft data.train=data/preferences/right.jsonl \
      out=models/unified-reward-rejection
fi
mmrl train $recipe "$@"
