"""Rewards that fail, and servers that are lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults.place import DIGITS, PLUGINS, Place, free_port, listening
from benchmarks.faults.processes import Process, mmrl
from benchmarks.faults.rows import Row


def bad_reward(what: str, place: Place, count: int, chance: Random) -> Row:
    """From some moment on every call of the reward raises, ends its process, or takes forever."""
    row = Row({"crash": "reward raises", "die": "reward's process dies", "hang": "reward hangs"}[what])
    trouble = place.folder / f"trouble-{what}"
    limit = {} if what == "crash" else {"timeout": 1.0}
    rewards = [{**DIGITS, "trouble": str(trouble), **limit}]
    life = place.life("words")
    while row.wants(count):
        trial = place.trial("words", what, rewards=rewards)
        while row.wants(count, trial):
            [process] = trial.start()
            if process.wait(chance.uniform(0, life)):
                trial.expect(process, [0])
                continue
            trouble.write_text(what)
            code = trial.expect(process, [1, 0], saying="max_failed_rewards allows 20%")
            trouble.unlink()
            if code:
                row.strike(trial, code)
        row.done(trial)
    return row


def reward_server(place: Place, count: int, chance: Random) -> Row:
    """`mmrl rewards serve` is killed: at once started again, which the run waits for, or after the run has ended."""
    port = free_port()

    def serve() -> Process:
        return mmrl(["rewards", "serve", f"{PLUGINS}:digits", "--port", str(port)])

    rewards = [{"name": "remote", "as": "digits", "url": f"http://127.0.0.1:{port}", "retries": 4}]
    return lost_server(
        place,
        Row("reward server lost"),
        "words",
        serve,
        port,
        count,
        chance,
        saying="Connection",
        lost=1,
        waits=True,
        rewards=rewards,
    )


def rollout_server(place: Place, count: int, chance: Random) -> Row:
    """The same with the server that makes the completions: the tests' own, which speaks vLLM's dialect and gives the
    same completions for the same seeds. One that is lost while it is given weights ends the run in any case."""
    port = free_port()

    def serve() -> Process:
        return Process(lambda: serve_model(place.folder / "model", port))

    server = {"urls": [f"http://127.0.0.1:{port}"], "kind": "vllm", "weights": "adapter", "timeout": 20}
    return lost_server(
        place,
        Row("rollout server lost"),
        "adapter",
        serve,
        port,
        count,
        chance,
        saying="127.0.0.1",
        lost=68,
        waits=False,
        server=server,
    )


def serve_model(folder: Path, port: int) -> None:
    from http.server import ThreadingHTTPServer

    from chat_servers import ModelServer  # of tests/helpers

    ThreadingHTTPServer(("127.0.0.1", port), ModelServer(folder)._handler()).serve_forever()


def lost_server(
    place: Place,
    row: Row,
    kind: str,
    serve: Callable[[], Process],
    port: int,
    count: int,
    chance: Random,
    *,
    saying: str,
    lost: int,
    waits: bool,
    **changes: Any,
) -> Row:
    server = serve()
    try:
        listening(port, server)
        place.whole(kind, **changes)
        life = place.life(kind, **changes)
        while row.wants(count):
            trial = place.trial(kind, f"lost-{kind}", **changes)
            while row.wants(count, trial):
                [process] = trial.start()
                if process.wait(chance.uniform(0.1, 0.9) * life):
                    trial.expect(process, [0])
                    continue
                server.kill()
                if soon := row.times % 2 == 0:
                    server = serve()
                code = trial.expect(process, [0] if soon and waits else [0, lost, 2], saying=saying)
                if not soon:
                    server = serve()
                listening(port, server)
                row.strike(trial, code or None)
            row.done(trial)
    finally:
        server.kill()
    return row
