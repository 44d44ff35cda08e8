from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from mmrl.plugins import ConfigError
from mmrl.records import Sample
from mmrl.runs import layout
from mmrl.runs.files import append_line
from mmrl.runs.reader import list_runs, read_rollouts
from mmrl.runs.summary import clean, runs_table, show_run, summarize, summary
from mmrl.runs.writer import RunWriter


@pytest.fixture
def run(tmp_path: Path) -> RunWriter:
    return RunWriter.create(tmp_path / "a", "steps: 40\n")


def printed(renderable) -> str:
    out = io.StringIO()
    Console(file=out, width=160, force_terminal=True, color_system=None).print(renderable)
    return out.getvalue()


def write_metrics(run: RunWriter, lines: list[dict]) -> None:
    for step, line in enumerate(lines):
        append_line(run.folder / layout.METRICS, layout.to_json({"step": step, **line}))


def test_a_run_is_summed_up(run: RunWriter):
    phases = {"seconds/rollout": 3.0, "seconds/learn": 1.0}
    write_metrics(run, [{"reward": step / 20, "groups_zero_spread": 0.5, **phases} for step in range(20)])
    append_line(run.folder / layout.METRICS, "half a li")
    facts = summarize(run.folder)
    assert facts["reward_first"] == pytest.approx(0.025) and facts["reward_last"] == pytest.approx(0.925)
    assert (facts["best_step"], facts["best_reward"]) == (19, 0.95)
    assert (facts["steps"], facts["planned"], facts["state"]) == (20, 40, "running")
    assert (facts["zero_spread"], facts["all_right"]) == (0.5, None)
    assert list(facts["seconds"].items()) == [("rollout", 60.0), ("learn", 20.0)] and facts["total_seconds"] == 80.0
    text = printed(summary(run.folder))
    for words in ("20/40 steps", "0.025 → 0.925", "0.950 at step 19", "1 min 20 s", "75%", str(run.folder)):
        assert words in text


@pytest.mark.parametrize("lines", [[], [{}], [{"reward": float("nan"), "seconds/plan": 0.0}]])
def test_a_run_with_few_numbers_is_summed_up_too(run: RunWriter, lines: list[dict]):
    write_metrics(run, lines)
    assert summarize(run.folder)["reward_last"] is None
    assert "all right -, all wrong -" in printed(summary(run.folder))
    assert f"{len(lines)}/40" in printed(runs_table(list_runs(run.folder.parent)))


def test_completions_are_grouped_by_prompt(run: RunWriter, make_rollouts, make_media):
    content = [{"type": "image", "image": "x.png"}, {"type": "text", "text": "Where is it?"}]
    media = make_media()
    first = Sample("first", ({"role": "user", "content": content},), (media,), {"box": [1, 2]})
    samples = [first, Sample("second", ()), Sample("third", ())]
    rollouts = make_rollouts((2, 2, 1), samples=samples)
    rollouts.origin[1] = "ground_truth"
    run.record(0, rollouts, {})
    run.record(7, rollouts, {})
    text = printed(show_run(run.folder, limit=2))
    assert "step 7: 2 of 3 prompts" in text and "third" not in text
    assert "user: [image] Where is it?" in text and f"media/{media.digest}.png" in text and '{"box": [1, 2]}' in text
    assert text.index("completion 1") < text.index("second") < text.index("completion 2")
    assert "(ground_truth) completion 1" in text
    assert "step 0" in printed(show_run(run.folder, 0))
    with pytest.raises(ConfigError, match="no rollouts of step 3"):
        show_run(run.folder, 3)


def test_pictures_are_shown_by_their_path(run: RunWriter, make_made):
    run.record(0, make_made([Image.new("RGB", (8, 8), "red")]), {})
    text = printed(show_run(run.folder))
    assert read_rollouts(run.folder, 0)[0]["made"] in text
    assert "steps" in text and "tokens" not in text


def test_untrusted_text_is_shown_and_does_nothing(run: RunWriter, make_rollouts):
    texts = ["[red]alarm[/red]", "[/] [bold", "\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07 \x9b2Jx", "a\u202eb\r\x08c"]
    hostile = Sample("[link=x]id[/]", ({"role": "[/]", "content": "\x1b[2J[blink]?"},), (), {"[/]": "\x1b[1m"})
    rollouts = make_rollouts((4,), samples=[hostile], text=texts)
    rollouts.scores = {"[/x]": rollouts.reward}
    run.record(0, rollouts, {})
    text = printed(show_run(run.folder))
    for words in ("[red]alarm[/red]", "[/] [bold", "red bell", "2Jx", "abc", "[link=x]id[/]", "[/]: [blink]?", "[/x]"):
        assert words in text
    assert not set(text) & set("\x07\x08\x1b\x9b\u202e\r")


def test_a_run_without_rollouts_says_so(run: RunWriter):
    with pytest.raises(ConfigError, match="no rollouts yet"):
        show_run(run.folder)


def test_cleaning_keeps_what_is_text():
    assert clean("a\n\tb é 在 👩\u200d🚀") == "a\n\tb é 在 👩\u200d🚀"
