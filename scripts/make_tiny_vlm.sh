#!/usr/bin/env bash
# Rebuild the weights that ship with mmrl: a Qwen3-VL of 1.3 M parameters, from random weights, by supervised learning
# on drawn screens whose labels are noisy on purpose (40 % of the clicks lie inside their element).
# usage: scripts/make_tiny_vlm.sh            2 CPU cores: about 25 minutes. Result: mmrl/assets/tiny-vlm
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"

rm -rf models/tiny-vlm-untrained models/tiny-vlm
python -c "from pathlib import Path; from mmrl.policies.tiny import save_untrained; save_untrained(Path('models/tiny-vlm-untrained'))"
[ -f data/gui_cold/cold_start.jsonl ] || mmrl data make gui-cold-start data/gui_cold count=20000 seed=1
mmrl sft configs/demo/tiny_vlm_sft.yaml
python -c "from pathlib import Path; from mmrl.policies.tiny import ship; ship(Path('models/tiny-vlm'))"
du -sh mmrl/assets/tiny-vlm
