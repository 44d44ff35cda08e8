#!/usr/bin/env bash
# Rebuild the CLIP model that ships with mmrl (`model: tiny` of the CLIP rewards): 0.4 M parameters, from random weights,
# on 24,000 drawn scenes with captions. First the image tower names what it sees, then both towers learn to agree.
# usage: scripts/make_tiny_clip.sh           one CPU core: about 7 minutes. Result: mmrl/assets/tiny-clip
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1

python -m rewards.images.tiny mmrl/assets/tiny-clip
du -sh mmrl/assets/tiny-clip
