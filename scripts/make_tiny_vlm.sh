#!/usr/bin/env bash
# Rebuild the weights that ship with mmrl: a Qwen3-VL of 1.4 M parameters, from random weights, in three stages: the
# vision tower learns what is where on drawn screens, the language model learns to answer questions about them, and
# labels of which only 40 % are right make it doubt, so that reinforcement learning has something to do.
# usage: scripts/make_tiny_vlm.sh            2 CPU cores: about 25 minutes. Result: mmrl/assets/tiny-vlm
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"

rm -rf models/tiny-vlm{,-untrained,-sees,-reads}
[ -f data/gui_clean/cold_start.jsonl ] || mmrl data make gui-cold-start data/gui_clean count=14000 seed=3 noise=0.15
[ -f data/gui_noisy/cold_start.jsonl ] || mmrl data make gui-cold-start data/gui_noisy count=6000 seed=1
python -c "from pathlib import Path; from mmrl.policies.tiny import save_untrained; save_untrained(Path('models/tiny-vlm-untrained'))"
python -m mmrl.policies.tiny_vision models/tiny-vlm-untrained models/tiny-vlm-sees data/gui_clean/cold_start.jsonl
mmrl sft configs/tiny_vlm/1_read.yaml
mmrl sft configs/tiny_vlm/2_doubt.yaml
python -c "from pathlib import Path; from mmrl.policies.tiny import ship; ship(Path('models/tiny-vlm'))"
du -sh mmrl/assets/tiny-vlm
