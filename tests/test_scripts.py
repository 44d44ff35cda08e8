"""The training scripts, run as a user would without their data: `scripts/train_X.sh --dry-run`, and what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import warm_mmrl

from mmrl.runs.reader import read_events, read_metrics

ROOT = Path(__file__).parents[1]
FORMATS = ROOT / "tests/data_pipelines/formats"
SCRIPTS = sorted((ROOT / "scripts").glob("train_*.sh"))
NAMES = [script.stem.removeprefix("train_") for script in SCRIPTS]
MADE = ("data", "models", "runs")


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return warm_mmrl.environment()


def run(script, *words, environment=None, cwd=ROOT):
    command = ["bash", str(script), *map(str, words)]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300)


def there() -> list[Path]:
    return sorted(path for name in MADE for path in (ROOT / name).glob("*/*"))


def stages(script: Path) -> int:
    """How many stages of training it has: of a loop, one for every word of it."""
    text = script.read_text().replace("\\\n", " ")
    looped = sum(len(words.split()) - 1 for words in re.findall(r"for \w+ in (.*); do train ", text))
    return looped + len(re.findall(r"^(?:cold_start|train) |; do train ", text, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_a_dry_run_takes_the_samples_through_all_stages(script, environment, tmp_path):
    before = there()
    result = run(script, "--dry-run", environment=environment, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("dry run: nothing is written") == stages(script) > 0
    assert result.stdout.count("together, without activations") == stages(script)
    assert there() == before and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_dry_run_of_ones_own_data_reads_it_and_takes_settings(environment, tmp_path):
    for name in ("mob_12.png", "mob_13.png"):
        (tmp_path / name).write_bytes((FORMATS / "android-control" / name).read_bytes())
    (tmp_path / "steps.json").write_text(
        '[{"img_filename": "mob_12.png", "bbox": [1, 2, 30, 40], "instruction": "open it"},'
        ' {"img_filename": "mob_13.png", "action": "scroll", "instruction": "further"}]'
    )
    script = ROOT / "scripts/train_ui_r1_android_control.sh"
    words = ["steps.json", ".", "model.path=tiny", "steps=7", "--dry-run"]
    result = run(script, *words, environment=environment, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "7 steps of 16 prompts" in result.stdout and "samples                       │ 2 " in result.stdout
    wrong = run(script, *words, "rewardz=[x]", environment=environment, cwd=tmp_path)
    assert wrong.returncode == 2 and "Did you mean rewards" in wrong.stderr


@pytest.mark.slow
def test_resume_continues_a_run_that_is_there_and_begins_one_that_is_not(environment, tmp_path):
    """With a project folder of its own, for these are trainings."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    script, inputs = tmp_path / "scripts/train_ui_r1_android_control.sh", FORMATS / "android-control"
    small = ["model.path=tiny", "prompts_per_step=1", "group_size=2", "sampling.max_new_tokens=4", "name=mine"]
    words = [inputs / "train.json", inputs, *small]
    for given in (["steps=1", "--resume"], ["steps=2", "--resume"]):
        result = run(script, *words, *given, environment=environment, cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
    kinds = [event["kind"] for event in read_events(tmp_path / "runs/mine")]
    assert kinds.count("started") == kinds.count("resumed") == 1
    assert [line["step"] for line in read_metrics(tmp_path / "runs/mine")] == [0, 1]
    refused = run(script, *words, "steps=2", environment=environment, cwd=tmp_path)
    assert refused.returncode == 2 and "already holds a run" in refused.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_without_data_a_script_says_what_to_fetch_and_from_where(script, tmp_path):
    result = run(script, cwd=tmp_path)
    assert result.returncode == 2
    options = r"\[key=value \.\.\.\] \[--resume\] \[--dry-run\]"
    usage = re.search(rf"usage: scripts/{script.name}((?: [A-Z_]+)+) {options}", result.stderr)
    assert usage, result.stderr
    inputs = re.search(r"^inputs=\((.*)\)$", script.read_text(), re.MULTILINE)
    assert inputs and len(usage[1].split()) == len(inputs[1].split())
    assert re.search(r"https?://", result.stderr), "no source"
    for sample in re.findall(r"=(\S+)", inputs[1]):
        assert (FORMATS / sample).exists()
    for needed in (r"VL-\dB|TARS-1.5-7B|MMR1-7B", r"configs/[\w/]+", r"GPU|H100|A100", r"hours?|minutes"):
        assert re.search(needed, result.stderr), f"the head does not say {needed}"


def test_data_that_is_not_there_is_named(tmp_path):
    result = run(ROOT / "scripts/train_ui_r1_android_control.sh", "absent.json", tmp_path, cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.startswith("absent.json does not exist.")
    assert run(ROOT / "scripts/train_ui_r1_android_control.sh", "--help").stdout.startswith("UI-R1 with Qwen2.5-VL-3B")
