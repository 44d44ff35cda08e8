#!/usr/bin/env bash
# UnifiedReward-Think with Qwen2.5-VL-7B on pairs of pictures: cold start, rejection sampling, GRPO on what was judged wrongly
# (configs/papers/unified_reward_think_sft.yaml, unified_reward_think.yaml). Written for 8 GPUs of 80 GB, about 1 + 3 + 8
# hours (an estimate). Not yet run on them, so no result stands here.
# usage: scripts/train_unified_reward_think_pairs.sh CHATS PAIRS TEST IMAGES [key=value ...] [--resume] [--dry-run]
#   CHATS   rows of docs/data.md that end in <think>...</think><answer>Image 1 is better</answer>, for example from
#           https://huggingface.co/datasets/CodeGoat24/ImageGen-CoT-Reward-5K
#   PAIRS   [{"problem": "...", "solution": "Image 1 is better", "images": ["a.png", "b.png"]}, ...]; TEST: the same, held out
#   IMAGES  the folder of the pictures
inputs=(chats=rows/chats.jsonl pairs=preferences/pairs.jsonl test=preferences/pairs.jsonl images=preferences)
base=Qwen/Qwen2.5-VL-7B-Instruct
source "$(dirname "$0")/start_training.sh"

recipe=configs/papers/unified_reward_think.yaml sft=configs/papers/unified_reward_think_sft.yaml data=data/preferences
make $data/train.jsonl convert preferences "$pairs" "media=$images" split=train
make $data/test.jsonl convert preferences "$test" "media=$images" split=test
make $data/cold_start.jsonl convert rows "$chats"
cold_start models/unified-reward-sft $sft
stand_in $data/right.jsonl "$chats"
stand_in $data/wrong.jsonl $data/train.jsonl
make $data/right.jsonl reject $data/train.jsonl --config $recipe --model models/unified-reward-sft --metric verdict \
  --wrong $data/wrong.jsonl
cold_start models/unified-reward-rejection $sft model.path=models/unified-reward-sft data.train=$data/right.jsonl \
  out=models/unified-reward-rejection
train $recipe
