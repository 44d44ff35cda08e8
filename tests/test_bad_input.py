"""What a user gets wrong, and the message that says where and what to do. Nothing is written before all checks pass."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from rich.console import Console

from mmrl.launch import run_training
from mmrl.plugins import ConfigError
from mmrl.policies.tiny import save_untrained
from rewards.scoring import RewardFailure


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "untrained"
    save_untrained(folder)
    return folder


def row(number: int, **changes: Any) -> dict[str, Any]:
    content = [{"type": "image", "image": f"{number}.png"}, {"type": "text", "text": "click the red circle"}]
    return {
        "id": f"r{number}",
        "messages": [{"role": "user", "content": content}],
        "target": {"box": [0, 0, 8, 8]},
        **changes,
    }


@pytest.fixture
def workplace(tmp_path: Path, model: Path) -> Any:
    """Three good rows, and a function that trains on them with changes to the config."""
    for number in range(3):
        Image.new("RGB", (64, 64), (90 * number, 80, 70)).save(tmp_path / f"{number}.png")
    return Workplace(tmp_path, model)


class Workplace:
    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.rows = [row(number) for number in range(3)]

    def config(self, **changes: Any) -> Path:
        (self.folder / "data.jsonl").write_text("\n".join(json.dumps(line) for line in self.rows))
        config = {
            "runs": str(self.folder / "runs"),
            "steps": 1,
            "prompts_per_step": 2,
            "group_size": 2,
            "model": {"path": str(self.model)},
            "data": {"train": str(self.folder / "data.jsonl")},
            "sampling": {"max_new_tokens": 3},
            "rewards": ["point_in_box"],
            **changes,
        }
        file = self.folder / "my_run.yaml"
        file.write_text(yaml.safe_dump(config))
        return file

    def message(self, expected: type[Exception] = ConfigError, **changes: Any) -> str:
        with pytest.raises(expected) as caught:
            run_training(str(self.config(**changes)), [], resume=False, console=Console(quiet=True))
        if expected is ConfigError:
            assert not (self.folder / "runs").exists()
        return str(caught.value)

    def reward(self, body: str) -> list[str]:
        (self.folder / "mine.py").write_text(body)
        return [f"{self.folder}/mine.py:mine"]


def test_the_good_case_trains(workplace):
    run_training(str(workplace.config()), [], resume=False, console=Console(quiet=True))
    assert (workplace.folder / "runs/my_run/checkpoints/step-000000/state.json").exists()


def test_unknown_key(workplace):
    message = workplace.message(group_sise=4)
    assert "my_run.yaml" in message
    assert "group_sise" in message
    assert "Did you mean group_size?" in message


def test_unknown_setting_of_a_stage(workplace):
    message = workplace.message(rollout={"name": "dynamic", "max_request": 4})
    assert "rollout.max_request is not a setting of `dynamic`" in message
    assert "Did you mean max_requests?" in message


def test_missing_image(workplace):
    (workplace.folder / "1.png").unlink()
    message = workplace.message()
    assert "data.jsonl, row 2" in message
    assert "r1" in message
    assert "1.png" in message


def test_truncated_jpeg(workplace):
    whole = workplace.folder / "whole.jpg"
    Image.effect_noise((64, 64), 90).convert("RGB").save(whole)
    (workplace.folder / "cut.jpg").write_bytes(whole.read_bytes()[:-400])
    workplace.rows[2]["messages"][0]["content"][0]["image"] = "cut.jpg"
    message = workplace.message()
    assert "data.jsonl, row 3" in message
    assert "cut.jpg" in message


def test_rows_of_bad_media_are_skipped_and_counted_where_the_config_says_so(workplace):
    """An empty file is found when the rows are read, a cut one when they are encoded."""
    (workplace.folder / "1.png").write_bytes(b"")
    whole = (workplace.folder / "2.png").read_bytes()
    workplace.rows += [row(number) for number in (3, 4)]
    for number in (3, 4):
        (workplace.folder / f"{number}.png").write_bytes(whole)
    (workplace.folder / "2.png").write_bytes(whole[: len(whole) * 2 // 3])
    console = Console(record=True, width=300, quiet=False, file=io.StringIO())
    data = {"train": str(workplace.folder / "data.jsonl"), "bad_media": "skip"}
    run_training(str(workplace.config(data=data)), [], resume=False, console=console)
    said = console.export_text()
    assert "row 2 (id r1)" in said and "1.png is empty" in said and "1 of 5 rows are skipped" in said
    assert "row 3 (id r2" in said and "2.png cannot be decoded" in said and "1 of 4 rows are skipped" in said
    for number in (0, 2, 3, 4):
        (workplace.folder / f"{number}.png").write_bytes(b"")
    with pytest.raises(ConfigError, match="there are no rows"):
        run_training(str(workplace.config(data=data, name="another")), [], resume=False, console=console)


def test_several_files_are_read_as_one_and_an_id_may_be_in_one_of_them_only(workplace):
    path = workplace.folder / "more.jsonl"
    (workplace.folder / "9.png").write_bytes((workplace.folder / "2.png").read_bytes())
    path.write_text(json.dumps(row(9)))
    both = {"train": [str(workplace.folder / "data.jsonl"), str(path)]}
    console = Console(record=True, width=300, file=io.StringIO())
    run_training(str(workplace.config(data=both)), [], resume=False, console=console)
    assert "epochs of 4 samples" in console.export_text()
    path.write_text(json.dumps(row(1)))
    with pytest.raises(ConfigError, match=r"more.jsonl, row 1.*r1@.* is already that of .*data.jsonl, row 2"):
        run_training(str(workplace.config(data=both, name="another")), [], resume=False, console=console)


def test_a_path_that_leaves_the_data_folder(workplace):
    workplace.rows[1]["messages"][0]["content"][0]["image"] = "../../etc/passwd"
    message = workplace.message()
    assert "data.jsonl, row 2" in message and "leaves the data folder" in message and "data.roots" in message


def test_row_without_target(workplace):
    del workplace.rows[1]["target"]
    message = workplace.message()
    assert "data.jsonl, row 2" in message
    assert "target" in message


def test_target_that_a_reward_needs(workplace):
    workplace.rows[1]["target"] = {"answer": "B"}
    message = workplace.message()
    assert "data.jsonl, row 2" in message
    assert "point_in_box needs target.box" in message


def test_prompt_over_the_token_budget_is_refused_by_name_and_never_cut(workplace):
    Image.new("RGB", (512, 512)).save(workplace.folder / "2.png")
    message = workplace.message(data={"train": str(workplace.folder / "data.jsonl"), "budget": {"max_tokens": 200}})
    assert "data.jsonl, row 3 (id r2" in message
    assert "1,024 of them" in message  # 32 x 32 vision tokens, all counted
    assert "max_tokens is 200" in message


def test_group_size_1(workplace):
    assert "group_size = 1" in workplace.message(group_size=1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def mine(completion, sample): return float('nan')", "finite"),
        ("def mine(completion, sample): raise KeyError('colour')", "colour"),
        ("def mine(completion, sample): return [1.0]", "list"),
        (
            "from rewards import reward\n@reward(scope='group')\ndef mine(completions, sample): return [1.0]",
            "1 .* for 2 completions|2 completions",
        ),
    ],
    ids=["nan", "raises", "list", "wrong count"],
)
def test_a_reward_that_fails(workplace, body, reason):
    import re

    message = workplace.message(RewardFailure, rewards=workplace.reward(body))
    assert "mine" in message
    assert "mine.py" in message
    assert re.search(reason, message), message


def test_a_run_is_never_overwritten(workplace):
    run_training(str(workplace.config()), [], resume=False, console=Console(quiet=True))
    with pytest.raises(ConfigError, match="--resume"):
        run_training(str(workplace.config()), [], resume=False, console=Console(quiet=True))


def test_the_command_prints_the_message_without_a_traceback(workplace):
    command = [sys.executable, "-m", "mmrl.cli", "train", str(workplace.config()), "group_size=1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 2
    assert "group_size = 1" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_shows_where_a_reward_failed_and_nothing_of_its_own(workplace):
    name = workplace.reward("def mine(completion, sample):\n    colours = {}\n    return colours['red']")
    command = [sys.executable, "-m", "mmrl.cli", "train", str(workplace.config(rewards=name))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 1
    trace, _, message = done.stderr.partition("error: reward mine")
    assert "mine.py" in trace and "return colours['red']" in trace and trace.rstrip().endswith("KeyError: 'red'")
    assert "failed on 4 of 4" in message and "trainer.py" not in done.stderr and "Traceback" not in message


def test_a_model_that_is_not_there(workplace):
    message = workplace.message(model={"path": str(workplace.folder / "nothing")})
    assert "model.path" in message
    assert "nothing" in message
