#!/usr/bin/env bash
# The main job on a laptop: a vision-language model of 1.4 M parameters learns to click by GRPO.
# usage: scripts/demo.sh [key=value ...]      for example: scripts/demo.sh seed=1 steps=60
# 2 CPU cores: about 2 minutes after installation. Result: runs/gui, its learning curve and its completions.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/demo_start.sh gui "$@"

[ -f data/gui/test.jsonl ] || mmrl data make gui data/gui
mmrl eval tiny data/gui/test.jsonl --config configs/demo/gui.yaml
mmrl train configs/demo/gui.yaml "$@"
mmrl eval "runs/$name" data/gui/test.jsonl
mmrl runs plot "runs/$name"
mmrl runs show "runs/$name" --limit 2
