"""The real thing: a process, a socket, requests as they come over the wire."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from viewed_runs import write_run


@pytest.fixture
def started(runs, tmp_path):
    """Starts `mmrl view`; gives the address it prints."""
    processes = []

    def start(*arguments, folder=runs):
        command = [sys.executable, "-m", "mmrl.cli", "view", str(folder), "--port", "0", "--no-browser", *arguments]
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        processes.append(process)
        line = process.stdout.readline()
        host, port, rest = re.fullmatch(r"mmrl view: http://([^:/]+):(\d+)(/.*)\n", line).groups()
        return process, host, int(port), rest

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) is not None


def ask(port, path, host=None, **headers):
    """One request, its path as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("GET", path, skip_host=True)
    for name, value in {"Host": host or f"127.0.0.1:{port}", **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer, answer.read()


def test_it_serves_the_runs_of_a_folder_and_ends_when_interrupted(started, runs):
    write_run(runs / "one", 2)
    process, _, port, _ = started()
    answer, body = ask(port, "/api/runs")
    assert answer.status == 200 and json.loads(body)["runs"][0]["id"] == "one"
    process.send_signal(signal.SIGINT)
    process.wait(20)


OUTWARD = [
    "/../../../../../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
    "/api/runs/one/media/../config.yaml", "/api/runs/one/media/..%2f..%2fsecret.txt", "/api/runs/../secret.txt",
    "/api/runs/one/media/%2e%2e/config.yaml", "/api/runs/one%2f..%2f..%2fprivate/groups",
    "/api/runs/../private/groups", "/js/../../pyproject.toml", "/vendor/../answers.py", "/..\\..\\secret.txt",
    "/api/runs/one/frames/0/0/0/../../../../../config.yaml", "/api/runs/one/media/%00.png",
    "/api/runs/%2e%2e%2fprivate", "/static/%2e%2e/%2e%2e/viewer/app.py", "/mmrl/viewer/app.py", "/%2f%2fetc%2fpasswd",
]  # fmt: skip

INSIDE = (b"confidential", b"root:", b"setuptools", b"steps: 10", b"click button", b"import annotations")
"""Words of what must not be told."""


def test_no_path_leads_out(started, runs):
    write_run(runs / "one", 1)
    write_run(runs.parent / "private", 1)
    (runs / "secret.txt").write_text("confidential")
    _, _, port, _ = started()
    for path in OUTWARD:
        answer, body = ask(port, path)
        page = (answer.getheader("content-type") or "").startswith("text/html")
        assert answer.status in (400, 404) or page, (path, answer.status)
        assert not any(word in body for word in INSIDE), path


def test_another_address_prints_a_token_and_asks_for_it(started, runs):
    write_run(runs / "one", 1)
    _, _, port, rest = started("--host", "0.0.0.0")
    assert ask(port, "/api/runs")[0].status == 401
    answer, _ = ask(port, f"//evil.example{rest}")
    assert answer.status == 303 and answer.getheader("location") == "/evil.example/"
    cookie = answer.getheader("set-cookie").partition(";")[0]
    assert ask(port, "/api/runs", Cookie=cookie)[0].status == 200
    assert ask(port, "/api/runs", host="evil.example", Cookie=cookie)[0].status == 421


def test_a_port_that_is_taken_and_a_path_that_is_not_there_are_said(started, runs):
    _, _, port, _ = started()
    for arguments, said in [([str(runs), "--port", str(port)], "--port"), ([str(runs / "none")], "does not exist")]:
        command = [sys.executable, "-m", "mmrl.cli", "view", "--no-browser", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 2 and said in result.stderr


def test_two_processes_show_the_same_run(started, runs):
    write_run(runs / "one", 2)
    for _ in range(2):
        _, _, port, _ = started()
        for _ in range(100):
            _, body = ask(port, "/api/runs/one/groups")
            if json.loads(body)["total"] == 4:
                break
            time.sleep(0.1)
        assert json.loads(body)["total"] == 4
