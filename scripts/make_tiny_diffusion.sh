#!/usr/bin/env bash
# Rebuild the diffusers pipelines that ship with mmrl, from random weights, on 4,096 drawn pictures or films:
# tiny-flow (Stable Diffusion 3), tiny-ddim (Stable Diffusion 1), tiny-video (Wan 2.1).
# usage: scripts/make_tiny_diffusion.sh [flow|ddim|video ...]   one CPU core: about 15, 35 and 15 minutes. Result: mmrl/assets/tiny-*
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1

for kind in ${@:-flow ddim video}; do
  python -m mmrl.policies.tiny_diffusion "$kind" "mmrl/assets/tiny-$kind"
done
du -sh mmrl/assets/tiny-*
