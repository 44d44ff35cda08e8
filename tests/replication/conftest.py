from __future__ import annotations

from pathlib import Path

import pytest
import warm_mmrl
import yaml
from small_experiments import ROOT, TASK, experiment, write

from mmrl.replication import commands


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the experiment `mini`, as the working directory; processes find mmrl from there, imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(commands, "MMRL", (warm_mmrl.program(),))
    (tmp_path / "configs/reproduce/tasks").mkdir(parents=True)
    (tmp_path / "configs/reproduce/tasks/mini.yaml").write_text(yaml.safe_dump(TASK))
    write(experiment())
    return tmp_path
