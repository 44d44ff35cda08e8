"""`mmrl rewards serve`, a real one in its own process, and what it answers to whom."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from PIL import Image

from mmrl.plugins import ConfigError
from mmrl.records import Media, Sample
from rewards import Score, server, wire
from rewards.remote import remote
from rewards.scoring import Rewards

os.environ["NO_PROXY"] = "127.0.0.1"

PLUGIN = """
import math, os, time
from rewards import Score, reward

@reward(range=(0, 10))
def length(completion, sample, *, factor: float = 1.0):
    if completion == "nan":
        return math.nan
    if completion == "raise":
        raise ValueError("no area")
    if completion == "none":
        return None
    if completion == "exit":
        os._exit(3)
    return Score(factor * len(completion), parsed=(sample.id, sample.media[0].path if sample.media else ""), why="so")

@reward(scope="group", range=(0, 100))
def group(completions, sample):
    return [len(completions)] * len(completions)

@reward(scope="batch", reads="any", range=(0, 1000))
def red(completions, samples):
    return [sum(frame.getpixel((0, 0))[0] for frame in one) if isinstance(one, list) else one.getpixel((0, 0))[0]
            for one in completions]

@reward(scope="batch", reads="rollouts")
def inside(rollouts):
    return []
"""
SAMPLE = Sample("s", ({"role": "user", "content": "?"},), (Media("image", "/only/there.png", "0", (4, 3)),))


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("plugin") / "mine.py"
    file.write_text(PLUGIN)
    return str(file)


@contextlib.contextmanager
def serving(*arguments: str, **environment: str):
    """A server in a process of its own; its address."""
    command = [sys.executable, "-m", "mmrl.cli", "rewards", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "the server did not start"
        yield found[0]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="module")
def server_url(plugin):
    names = [f"{plugin}:{name}" for name in ("length", "group", "red")]
    with serving(*names, "--settings", "length.factor=2", "--timeout", "5", "--max-bytes", "2000000") as url:
        yield url


def ask(url: str, texts: list, samples: list[Sample] | None = None, **settings):
    return remote(url=url, **settings)(texts, samples or [SAMPLE] * len(texts))


def test_a_server_scores_as_here_and_tells_numbers_none_and_failures_apart(server_url):
    four, none, nan, raised, exited, last = ask(
        server_url, ["four", "none", "nan", "raise", "exit", "x"], reward="length"
    )
    assert four == Score(8.0, parsed=["s", "/only/there.png"], why="so")
    assert (none, last.value) == (None, 2.0)
    assert str(nan) == "ValueError: returned nan, which is not finite in float32"
    assert str(raised) == "ValueError: no area" and 'raise ValueError("no area")' in str(raised.__cause__)
    assert str(exited).startswith("ChildProcessError:") and str(exited).endswith("exited with code 3")


def test_images_and_videos_are_sent(server_url):
    red = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (3, 5)]
    assert [score.value for score in ask(server_url, [red[0], red], reward="red")] == [3, 8]


def test_a_group_reward_sees_whole_groups_or_refuses(server_url):
    rows = [sample for size in (2, 1, 3) for sample in [Sample(str(size), ())] * size]
    answers = ask(server_url, ["x"] * 6, rows, reward="group", batch_size=1, whole_groups=True)
    assert [answer.value for answer in answers] == [2, 2, 1, 3, 3, 3]
    assert all("set whole_groups: true" in str(answer) for answer in ask(server_url, ["x"] * 6, rows, reward="group"))


def test_the_server_says_what_it_serves(server_url):
    served = requests.get(f"{server_url}/rewards", timeout=5).json()["rewards"]
    assert [one["name"] for one in served] == ["length", "group", "red"]
    assert served[0] == {
        "name": "length", "range": [0, 10], "scope": "row", "reads": "text", "needs": [], "source": ""
    }  # fmt: skip


def _call(**changes):
    return {"reward": "length", **wire.encode_call(["a"], [SAMPLE]), **changes}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (_call(reward="lenght"), 404, "Did you mean length?"),
        (_call(reward=None), 404, "`reward` is missing"),
        (_call(reward=3), 404, "no reward named 3"),
        (_call(settings={"factor": 9}), 400, "settings are given when the server starts"),
        (_call(completions=[[]]), 400, "length reads text; completions[0] is video"),
        (_call(sample=[7]), 400, "one index"),
        (_call(completions=[{"png": "AAAA"}]), 400, "completions[0] is not a PNG"),
        ([], 400, "the call is an object"),
        (b"\x80\x04K\x01.", 400, "not a call"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b"x" * 2_000_001, 413, "at most 2,000,000 bytes"),
        (b"x" * 19_000_000, 413, "at most 2,000,000 bytes"),
    ],
)
def test_a_request_that_is_no_call_is_refused_with_the_reason(server_url, body, status, message):
    data = body if isinstance(body, bytes) else wire.dumps(body)
    for stream in (data, iter([data])):  # with a length, and in chunks without one
        answer = requests.post(
            f"{server_url}/score", data=stream, headers={"Content-Type": "application/json"}, timeout=5
        )
        assert answer.status_code == status
        assert message in answer.json()["error"]


def test_other_requests_are_refused_as_json(server_url):
    assert requests.post(f"{server_url}/score", data=wire.dumps(_call()), timeout=5).status_code == 415
    for answer in (requests.get(f"{server_url}/", timeout=5), requests.get(f"{server_url}/score", timeout=5)):
        assert answer.status_code in (404, 405) and answer.json()["error"]


def test_the_client_shows_why_the_server_refused(server_url):
    (unknown,) = ask(server_url, ["a"], reward="lenght")
    assert "answered 404: no reward named lenght. Did you mean length?" in str(unknown)
    (large,) = ask(server_url, ["a" * 2_000_000], reward="length")
    assert "answered 413: a request has at most 2,000,000 bytes" in str(large)
    small, too_large = ask(server_url, ["a", "a" * 1000], [SAMPLE, Sample("t", ())], reward="length", max_bytes=999,
                           batch_size=1)  # fmt: skip
    assert isinstance(small, Score)
    assert "lower batch_size" in str(too_large)


def test_a_token_keeps_others_out(plugin, monkeypatch):
    with serving(f"{plugin}:length", "--token-env", "REWARD_TOKEN", REWARD_TOKEN="secret") as url:
        (refused,) = ask(url, ["four"])
        assert "answered 401" in str(refused)
        assert requests.get(f"{url}/rewards", timeout=5).status_code == 401
        monkeypatch.setenv("MINE", "secret")
        assert ask(url, ["four"], token_env="MINE")[0].value == 4  # the only reward needs no name
        monkeypatch.setenv("MINE", "wrong")
        (refused,) = ask(url, ["four"], token_env="MINE")
        assert "answered 401" in str(refused)
        monkeypatch.delenv("MINE")
        with pytest.raises(ValueError, match="environment variable MINE is empty"):
            ask(url, ["four"], token_env="MINE")


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["lenght"], [], "no reward named `lenght`"),
        (["MINE:inside"], [], "reads rollouts"),
        (["MINE:length"], ["length.faktor=2"], "Did you mean factor"),
        (["MINE:length"], ["lenght.factor=2"], "NAME.setting=value; found lenght"),
        (["MINE:length"], ["factor=2"], "NAME.setting=value; found factor"),
        (["MINE:length"], ["length.threshold=2"], "belongs to the recipe"),
        (["MINE:length", "MINE:length"], [], "two rewards named length"),
    ],
)
def test_a_mistake_in_the_command_says_what_to_do(plugin, names, settings, message):
    with pytest.raises(ConfigError, match=message):
        server.load([name.replace("MINE", plugin) for name in names], settings, timeout=None)


VIDEO_ALIGN = """
import av

class VideoVLMRewardInference:  # the shape of VideoAlign's own; its score here is the number of frames in the file
    def __init__(self, checkpoint, device):
        self.device = device

    def reward(self, files, prompts, use_norm):
        assert use_norm and len(files) == len(prompts)
        frames = [sum(1 for _ in av.open(file).decode(video=0)) for file in files]
        return [{"VQ": float(count), "MQ": 0.0, "TA": 0.0, "Overall": float(count)} for count in frames]
"""


def test_the_example_of_videoalign_is_served_to_a_run(tmp_path):
    (tmp_path / "inference.py").write_text(VIDEO_ALIGN)
    example = str(Path(__file__).parents[2] / "docs" / "examples" / "video_align.py")
    videos = [[Image.new("RGB", (32, 16), colour) for _ in range(n)] for n, colour in ((3, "red"), (5, "blue"))]
    with serving(f"{example}:video_align", "--settings", "video_align.part=VQ", PYTHONPATH=str(tmp_path)) as url:
        found = remote(url=f"{url}/score", batch_size=1)(videos, [SAMPLE, SAMPLE])
    assert [score.value for score in found] == [3, 5]


def test_a_run_whose_server_is_not_there_says_so_before_it_begins():
    rewards = Rewards.from_config([{"name": "remote", "url": "http://127.0.0.1:9"}], where="w")
    with pytest.raises(ConfigError, match=r"reward remote cannot be loaded: .*no reward server answers at http://127"):
        rewards.load()
