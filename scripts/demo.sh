#!/usr/bin/env bash
# The main job on a laptop: a vision-language model of 1.4 M parameters learns by GRPO, from a reward alone, to click on
# screens (gui), to say when something happens (video), to read charts, or to answer about pictures from above (uav).
# usage: scripts/demo.sh [gui|video|charts|uav] [key=value ...]      for example: scripts/demo.sh video seed=1 steps=60
# 2 CPU cores: about 2 minutes after installation. Result: runs/<modality>, its learning curve and its completions.
set -euo pipefail
cd "$(dirname "$0")/.."
modality=gui
case ${1:-} in gui | video | charts | uav) modality=$1 && shift ;; esac
source scripts/demo_start.sh "$modality" "$@"

maker=$modality
if [ "$modality" = charts ]; then maker=charts-tiny; fi
[ -f "data/$modality/test.jsonl" ] || mmrl data make "$maker" "data/$modality"
mmrl eval tiny "data/$modality/test.jsonl" --config "configs/demo/$modality.yaml"
mmrl train "configs/demo/$modality.yaml" "$@"
mmrl eval "runs/$name" "data/$modality/test.jsonl"
mmrl runs plot "runs/$name"
mmrl runs show "runs/$name" --limit 2
