"""Rewards in real worker processes: whatever one does, its call fails, the others go on and no process is left."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from reward_rows import rollouts, run

from mmrl.records import Media, Rollouts, Sample
from rewards import Score, workers
from rewards.calling import RemoteError
from rewards.scoring import RewardFailure, Rewards
from rewards.workers import Workers

PLUGIN = '''
import ctypes, os, re, signal, subprocess, sys, time
from pathlib import Path
from mmrl.records import Media
from rewards import Score, reward

def act(completion, sample):
    """Does what the completion says."""
    verb, _, word = completion.partition(" ")
    if verb == "spin":
        while True:
            pass
    if verb == "regex":
        re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter's lock
    if verb == "stubborn":
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(60)
    if verb == "family":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path(word + ".part").write_text(str(child.pid))
        os.replace(word + ".part", word)
        child.wait()
    if verb == "sleep":
        time.sleep(float(word))
    if verb == "exit":
        os._exit(int(word))
    if verb == "sys.exit":
        sys.exit(int(word))
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "crash":
        ctypes.string_at(0)
    if verb == "print":
        print('{"outcomes": [{"value": 7}]}\\n' * int(word))
        os.write(1, b'"taken"\\n')
        os.write(2, b"x" * 300_000)
    if verb == "read":
        return len(sys.stdin.read())
    if verb == "raise":
        raise ValueError(word)
    return Score(len(completion), parsed=(os.getpid(), sample.id))

def pid(completion, sample):
    return os.getpid()

@reward(scope="group", range=(0, 100))
def group(completions, sample, *, pair: tuple[int, int] = (0, 0), folder: Path = Path("."), scale: int = 1):
    assert isinstance(pair, tuple) and isinstance(folder, Path), (pair, folder)
    assert all(isinstance(item, Media) for item in sample.media)
    return [len(set(completions)) * scale + pair[1]] * len(completions)

@reward(scope="batch", range=(0, 100))
def short(completions, samples):
    return [1.0] * (len(completions) - 1)

@reward(scope="batch", reads="any", range=(0, 1e9))
def red(completions, samples):
    return [sum(frame.getpixel((0, 0))[0] for frame in one) if isinstance(one, list) else one.getpixel((0, 0))[0]
            for one in completions]

class Heavy:
    def __init__(self, *, fail: bool = False, seconds: float = 0.0):
        if fail:
            raise OSError("no weights at /models/heavy")
        time.sleep(seconds)

    def __call__(self, completion, sample):
        return 1.0
'''
SAMPLE = Sample("s", ({"role": "user", "content": "?"},))


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("plugin") / "mine.py"
    file.write_text(PLUGIN)
    return str(file)


@pytest.fixture
def start(plugin):
    """`start(name, timeout=..., count=...)`: Workers for one of the plugin's rewards, ended after the test."""
    started = []

    def start(name: str = "act", *, count: int = 1, timeout: float = 10.0) -> Workers:
        started.append(Workers(f"{plugin}:{name}", form=None, count=count, timeout=timeout))
        return started[-1]

    yield start
    for one in started:
        one.close()


def ask(workers: Workers, *texts: str, **settings):
    """One call per text; its outcome."""
    answers = workers.attempt_all(settings, [([text], [SAMPLE]) for text in texts])
    assert [len(outcomes) for outcomes in answers] == [1] * len(texts)
    return [outcomes[0] for outcomes in answers]


def processes(workers: Workers) -> list[int]:
    return [worker.process.pid for worker in workers._running]


def exists(pid: int) -> bool:
    """Whether a process is there; a zombie is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true within ten seconds."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def gone(*pids: int) -> bool:
    return wait_for(lambda: not any(exists(pid) for pid in pids))


def score(texts: list[list[str]], spec: dict, *, images=None, **options) -> Rollouts:
    film = Media("video", "/not/here.mp4", "0", (64, 48), (32, 24), (0.0, 0.5))
    samples = [Sample(f"s{index}", SAMPLE.messages, (film,)) for index in range(len(texts))]
    rolled = rollouts(texts, samples, images=images)
    run(Rewards.from_config([spec], where="recipe.yaml: rewards", **options), rolled)
    return rolled


def test_settings_groups_and_schedules_arrive_as_they_would_in_this_process(plugin, tmp_path):
    rising = {"schedule": "linear", "start": 2.5, "end": 5.0}
    spec = {"name": f"{plugin}:group", "pair": [1, 2], "folder": str(tmp_path), "scale": rising}
    texts = [["a", "b", "a"], ["c"], ["d", "d"]]
    here = score(texts, spec)
    there = score(texts, {**spec, "timeout": 10, "workers": 2})
    assert here.reward.tolist() == [7, 7, 7, 4.5, 4.5, 4.5]
    assert there.reward.tolist() == here.reward.tolist()


def test_images_and_videos_are_scored_in_a_worker(plugin):
    red = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (3, 5)]
    rolled = score([["", ""]], images=[red[0], red], spec={"name": f"{plugin}:red", "timeout": 10})
    assert rolled.reward.tolist() == [3, 8]


def test_many_calls_keep_their_order_and_share_the_workers(start):
    two = start(count=2)
    two.start({})
    answers = ask(two, *[f"{'x' * (n % 7)}" for n in range(200)])
    assert [answer.value for answer in answers] == [n % 7 for n in range(200)]
    assert {answer.parsed[0] for answer in answers} == set(processes(two))
    assert answers[0].parsed[1] == "s"


def test_the_limit_is_for_each_call_not_for_all_nor_for_the_time_between(start):
    one = start(timeout=0.5)
    assert all(isinstance(outcome, Score) for outcome in ask(one, *["sleep 0.2"] * 4))
    pids = processes(one)
    time.sleep(0.6)
    assert isinstance(ask(one, "ok")[0], Score)
    assert processes(one) == pids


def test_a_rewards_py_in_the_working_directory_does_no_harm(start, tmp_path, monkeypatch):
    (tmp_path / "rewards.py").write_text("raise RuntimeError('the wrong module')")
    (tmp_path / "json.py").write_text("raise RuntimeError('the wrong module')")
    monkeypatch.chdir(tmp_path)
    assert isinstance(ask(start(), "ok")[0], Score)


def test_what_cannot_be_sent_fails_with_the_reason(start):
    bad = Sample("b", (), target={"answer": float("nan")})
    answers = start().attempt_all({}, [(["a"], [bad]), (["a"], [SAMPLE]), ([Image.new("CMYK", (2, 2))], [SAMPLE])])
    assert isinstance(answers[0][0], ValueError)
    assert isinstance(answers[1][0], Score)
    assert "CMYK" in str(answers[2][0])
    for value in (float("inf"), object()):
        assert all(isinstance(answer, ValueError) for answer in ask(start(), "a", "b", scale=value))


# -- rewards that misbehave ----------------------------------------------------------------------------------------


def test_a_call_that_hangs_is_killed_and_says_where_it_was(start):
    before, spin, between, regex, after = ask(start(timeout=0.5), "ok", "spin", "ok", "regex", "ok")
    for failed in (spin, regex):
        assert isinstance(failed, TimeoutError)
        assert str(failed).endswith("mine.py:act took longer than 0.5 s")
        assert 'mine.py", line' in "".join(traceback.format_exception(failed))
    pids = [answer.parsed[0] for answer in (before, between, after)]
    assert len(set(pids)) == 3
    assert gone(*pids[:2])


def test_a_call_that_ignores_signals_is_killed_with_its_children(start, tmp_path):
    one = start(count=2, timeout=0.5)
    file = tmp_path / "pid"
    stubborn, family, after = ask(one, "stubborn", f"family {file}", "ok")
    assert isinstance(stubborn, TimeoutError) and isinstance(family, TimeoutError) and isinstance(after, Score)
    assert gone(int(file.read_text()))


def test_a_process_that_ends_takes_only_its_call_with_it(start):
    ends = {
        "exit 7": "exited with code 7",
        "kill": "was ended by SIGKILL (out of memory?)",
        "crash": "was ended by SIGSEGV",
    }
    first, *failed, last = ask(start(), "ok", *ends, "ok")
    assert isinstance(first, Score) and isinstance(last, Score)
    assert all(isinstance(one, ChildProcessError) for one in failed)
    assert [str(one).partition("mine.py:act ")[2] for one in failed] == list(ends.values())
    assert "in act" in str(failed[-1].__cause__)  # the stack of the crash


def test_prints_go_to_stderr_and_stdin_is_empty(start, capfd):
    answers = ask(start(), "print 2000", "ok", "read")
    assert [answer.value for answer in answers] == [10, 2, 0]
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count('{"outcomes": [{"value": 7}]}') == 2000


def test_an_exception_brings_its_traceback_into_the_failure_that_stops_the_run(plugin):
    with pytest.raises(RewardFailure, match="failed on 1 of 2") as stop:
        score([["ok", "raise no area"]], {"name": f"{plugin}:act", "timeout": 10})
    assert "First failure: sample s0: ValueError: no area" in str(stop.value)
    assert "raise ValueError(word)" in "".join(traceback.format_exception(stop.value))


def test_a_run_goes_on_without_the_failed_rows_if_so_configured(plugin):
    spec = {"name": f"{plugin}:act", "timeout": 0.5, "workers": 2}
    rolled = score([["ok", "spin", "ok"], ["exit 1", "ok", "raise x"]], spec, max_failed=0.5)
    assert rolled.reward.isnan().tolist() == [False, True, False, True, False, True]
    assert "TimeoutError" in rolled.notes[1]["act"]["error"]


def test_a_wrong_count_fails_its_call(plugin):
    with pytest.raises(RewardFailure, match="returned 2 values for 3 completions"):
        score([["a", "b", "c"]], {"name": f"{plugin}:short", "timeout": 10})


def test_a_worker_that_died_between_two_rounds_is_replaced_without_a_failure(start):
    one = start()
    (first,) = ask(one, "ok")
    os.kill(first.parsed[0], signal.SIGKILL)
    os.waitid(os.P_PID, first.parsed[0], os.WEXITED | os.WNOWAIT)
    assert isinstance(ask(one, "ok")[0], Score)
    assert not exists(first.parsed[0])


def test_when_every_call_ends_its_worker_the_rest_is_given_up(start, monkeypatch):
    monkeypatch.setattr(workers, "LOST_IN_A_ROW", 2)
    one = start()
    assert [str(answer)[-1] for answer in ask(one, *[f"exit {code}" for code in (3, 4, 5, 6)])] == ["3", "4", "4", "4"]
    answers = ask(one, "exit 3", "ok", "exit 4", "ok")
    assert [isinstance(answer, Score) for answer in answers] == [False, True, False, True]


# -- loading -------------------------------------------------------------------------------------------------------


def test_loading_does_not_count_as_a_call_and_its_failure_fails_every_row(start, monkeypatch):
    assert ask(start("Heavy", timeout=0.3), "a", seconds=0.6) == [Score(1.0)]

    failing = start("Heavy", count=2)
    answers = ask(failing, "a", "b", "c", fail=True)
    assert all(isinstance(answer, RemoteError) and "no weights at" in str(answer) for answer in answers)
    assert processes(failing) == []
    with pytest.raises(RemoteError, match="no weights"):
        failing.start({"fail": True})

    monkeypatch.setattr(workers, "SETUP_LIMIT", 1.0)
    (slow,) = ask(start("Heavy"), "a", seconds=30.0)
    assert isinstance(slow, TimeoutError) and "loading" in str(slow)


def test_a_module_that_only_this_process_has_is_a_clear_failure():
    absent = Workers("no_such_module:fn", form=None, count=1, timeout=5)
    (answer,) = absent.attempt_all({}, [(["a", "b"], [SAMPLE, SAMPLE])])
    assert len(answer) == 2 and "ConfigError" in str(answer[0]) and "no module named" in str(answer[0])


# -- ends ----------------------------------------------------------------------------------------------------------


def test_no_process_is_left_after_close_or_without_a_reference(start, plugin):
    closed = start(count=2)
    closed.start({})
    pids = processes(closed)
    closed.close()
    closed.close()
    assert len(pids) == 2 and not any(exists(pid) for pid in pids)

    dropped = Workers(f"{plugin}:act", form=None, count=1, timeout=5)
    dropped.start({})
    (pid,) = processes(dropped)
    del dropped
    gc.collect()
    assert not exists(pid)


def test_closing_ends_what_is_being_asked(start, tmp_path):
    one, file = start(timeout=100), tmp_path / "pid"
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask, one, f"family {file}", "ok")
        assert wait_for(file.exists)
        one.close()
        assert isinstance(asked.exception(10), ChildProcessError)
    assert gone(int(file.read_text()))
    assert isinstance(ask(one, "ok")[0], Score)


@pytest.mark.parametrize("end", ["return", "kill"])
def test_workers_end_with_their_parent(plugin, tmp_path, end):
    """One idle, one in a call without a limit; the parent returns from its main thread, or is killed."""
    file = tmp_path / "pid"
    script = f"""
        import threading, time
        from pathlib import Path
        from mmrl.records import Sample
        from rewards.workers import Workers
        idle = Workers("{plugin}:pid", form=None, count=1, timeout=1000)
        busy = Workers("{plugin}:act", form=None, count=1, timeout=1000)
        print(int(idle.attempt_all({{}}, [(["a"], [Sample("s", ())])])[0][0].value), flush=True)
        call = [(["family {file}"], [Sample("s", ())])]
        threading.Thread(target=busy.attempt_all, args=({{}}, call), daemon=True).start()
        while "{end}" == "kill" or not Path("{file}").exists():
            time.sleep(0.05)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    idle = int(parent.stdout.readline())
    assert wait_for(file.exists)
    grandchild = int(file.read_text())
    if end == "kill":
        parent.kill()
    parent.wait(20)
    parent.stdout.close()
    assert gone(idle, grandchild)
