#!/usr/bin/env bash
# DanceGRPO on a laptop: a text-to-image model of 0.44 M parameters that half listens learns to draw what it is asked for.
# usage: scripts/demo_dance.sh [key=value ...]      for example: scripts/demo_dance.sh seed=1 steps=60
# 2 CPU cores: a few minutes after installation. Result: runs/dance and pictures of prompts it never saw, before and after.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/demo_start.sh dance "$@"

[ -f data/figures/test.jsonl ] || mmrl data make figures data/figures
mmrl eval tiny-flow data/figures/test.jsonl --config configs/demo/dance.yaml --samples 32
mmrl train configs/demo/dance.yaml "$@"
mmrl eval "runs/$name" data/figures/test.jsonl --samples 32
mmrl runs plot "runs/$name"
mmrl generate "runs/$name" "a blue triangle" "a cyan circle" "a green square" "a purple cross" --count 4 --out "runs/$name/pictures"
