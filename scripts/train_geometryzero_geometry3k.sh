#!/usr/bin/env bash
# GCPO on Geometry3K with Qwen2.5-VL-3B (configs/papers/geometryzero_geometry3k.yaml). The paper trains text-only models of
# 1.5 to 7 B; here the diagram is seen. Written for 4 GPUs of 80 GB, about 5 hours (an estimate: 45 s a step). Not yet run.
# usage: scripts/train_geometryzero_geometry3k.sh PROBLEMS IMAGES [key=value ...] [--resume] [--dry-run]
#   PROBLEMS  [{"problem": "<image>Find x.", "solution": "12", "image": "geo/17.png"}, ...] from the rows of
#             https://huggingface.co/datasets/hiyouga/geometry3k
#   IMAGES    the folder of their pictures
inputs=(problems=bigcharts/train.jsonl images=bigcharts)
source "$(dirname "$0")/start_training.sh"

make data/geometry3k/train.jsonl convert bigcharts "$problems" "media=$images" split=train "$ask_for_boxed"
train configs/papers/geometryzero_geometry3k.yaml
