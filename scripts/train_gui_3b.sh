#!/usr/bin/env bash
# Qwen2.5-VL-3B learns to click on drawn screens by GRPO (configs/gui_3b.yaml); held out: ScreenSpot-v2.
# usage: scripts/train_gui_3b.sh SCREENSPOT_V2_ANNOTATIONS IMAGES_FOLDER [key=value ...]
# Written for one 80 GB GPU; not yet run on one, so no minutes and no result stand here.
set -euo pipefail
cd "$(dirname "$0")/.."
annotations=${1:?the ScreenSpot-v2 annotation file or folder} images=${2:?the folder of its images}
shift 2
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

[ -f data/gui_full/train.jsonl ] || mmrl data make gui data/gui_full scale=full coordinates=seen
[ -f data/screenspot_v2/test.jsonl ] ||
  mmrl data convert screenspot "$annotations" "media=$images" coordinates=seen --out data/screenspot_v2/test.jsonl
mmrl train configs/gui_3b.yaml "$@"
