#!/usr/bin/env bash
# Rebuild the weights that ship with mmrl: a Qwen3-VL of 1.4 M parameters, from random weights, in five stages. The vision
# tower learns what is where in drawn screens, charts, pictures from above and clips; the language model learns to answer
# questions about screens, then about all of them, then more about clips; and labels that are often wrong make it doubt,
# so that reinforcement learning has something to do.
# usage: scripts/make_tiny_vlm.sh            2 CPU cores: about an hour and a half. Result: mmrl/assets/tiny-vlm
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"

# make FOLDER MAKER [setting=value ...]: draws unless it is there.
make() {
  local folder=data/tiny_vlm/$1 maker=$2
  shift 2
  [ -f "$folder/cold_start.jsonl" ] || mmrl data make "$maker" "$folder" "$@"
}
make gui gui-cold-start count=14000 seed=3 noise=0.15
make video video-cold-start count=6000 seed=3 noise=0
make video_more video-cold-start count=12000 seed=4 noise=0
make charts charts-cold-start count=8000 seed=3 noise=0
make uav uav-cold-start count=8000 seed=3 noise=0
make gui_noisy gui-cold-start count=3000 seed=1
make video_noisy video-cold-start count=3000 seed=1 noise=3
make charts_noisy charts-cold-start count=3000 seed=1
make uav_noisy uav-cold-start count=3000 seed=1

rm -rf models/tiny-vlm{,-untrained,-sees,-reads-screens,-reads-all,-reads}
python -c "from pathlib import Path; from mmrl.policies.tiny import save_untrained; save_untrained(Path('models/tiny-vlm-untrained'))"
python -m mmrl.policies.tiny_vision models/tiny-vlm-untrained models/tiny-vlm-sees
for stage in 1_read_screens 2_read_all 3_read_clips 4_doubt; do mmrl sft "configs/tiny_vlm/$stage.yaml"; done
python -c "from pathlib import Path; from mmrl.policies.tiny import ship; ship(Path('models/tiny-vlm'))"
du -sh mmrl/assets/tiny-vlm
