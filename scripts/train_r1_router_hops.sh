#!/usr/bin/env bash
# R1-Router's Step-GRPO with Qwen2.5-VL-7B on recorded chains of retrieval (configs/papers/r1_router_hops.yaml); queries are
# compared by BAAI/bge-m3. Written for 8 GPUs of 80 GB, about 10 hours (an estimate: 90 s a step). Not yet run on them.
# usage: scripts/train_r1_router_hops.sh CHAINS IMAGES [key=value ...] [--resume] [--dry-run]
#   CHAINS  JSON Lines of {"images": ["q.png"], "steps": [{"step_type": "ret", "problem": "...", "answer": {"query": "...",
#           "retriever": ["text retriever"]}}, {"step_type": "ans", "problem": "...", "answer": "Eiffel"}]}, as the training
#           data that https://huggingface.co/hmhm1229/R1-Router leads to
#   IMAGES  the folder of their pictures
inputs=(chains=hops/chains.jsonl images=hops)
sample_settings=(rewards.0.embedder=words) # instead of a model of texts
source "$(dirname "$0")/start_training.sh"

make data/hops/train.jsonl convert hops "$chains" "media=$images"
train configs/papers/r1_router_hops.yaml
