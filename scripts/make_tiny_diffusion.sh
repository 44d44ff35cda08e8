#!/usr/bin/env bash
# Rebuild the two diffusers pipelines that ship with mmrl, from random weights, on 4,096 drawn pictures:
# tiny-flow (Stable Diffusion 3), tiny-ddim (Stable Diffusion 1).
# usage: scripts/make_tiny_diffusion.sh [flow|ddim ...]   one CPU core: about 15 and 35 minutes.     Result: mmrl/assets/tiny-*
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1

for kind in ${@:-flow ddim}; do
  python -m mmrl.policies.tiny_diffusion "$kind" "mmrl/assets/tiny-$kind"
done
du -sh mmrl/assets/tiny-*
