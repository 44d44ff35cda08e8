"""Real HTTP servers for the tests of rollout servers: one that serves a model in the dialect of vLLM and SGLang (token
ids, log-probs, LoRA adapters, whole checkpoints) and can be told to misbehave; `transformers serve` as a process."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

Fault = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]
"""What is done with a request instead of answering it: the handler, and the honest answer."""


class ModelServer:
    """`with ModelServer(folder) as server: server.url`. It computes in `dtype`, one request at a time."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.folder, self.dtype = folder, dtype
        self.base, self.processor = self._loaded(folder), AutoProcessor.from_pretrained(folder)
        self.model, self.adapters = self.base, set[str]()
        self.faults: deque[Fault] = deque()
        """Taken one for each chat request; an honest server has none left."""
        self.always: Fault | None = None
        self.pause = 0.0
        """Seconds that every completion takes longer."""
        self.calls: list[tuple[float, str, dict[str, Any]]] = []
        """(time, path, body) of everything that was asked."""
        self._model = threading.Lock()

    def __enter__(self) -> ModelServer:
        self.http = start(self._handler())
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        return self

    def __exit__(self, *_: Any) -> None:
        self.http.shutdown()
        self.http.server_close()

    def asked(self, path: str) -> list[dict[str, Any]]:
        return [body for _, asked, body in self.calls if asked == path]

    def _loaded(self, folder: Path | str) -> Any:
        return AutoModelForImageTextToText.from_pretrained(folder, dtype=self.dtype).eval()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(Quiet):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.calls.append((time.monotonic(), self.path, body))
                if self.path != "/v1/chat/completions":
                    with server._model:
                        return reply(self, *server.administer(self.path, body))
                fault = server.faults.popleft() if server.faults else server.always
                if body["model"] not in {str(server.folder), "served", *server.adapters}:
                    return reply(self, 404, {"error": {"message": f"no model {body['model']}"}})
                time.sleep(server.pause)
                with server._model:
                    answer = server.complete(body)
                return reply(self, 200, answer) if fault is None else fault(self, answer)

        return Handler

    def administer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/load_lora_adapter":
            from peft import PeftModel

            name = body["lora_name"]
            if name in self.adapters:
                return 400, {"error": {"message": f"The lora adapter '{name}' has already been loaded."}}
            if self.adapters:
                self.model.load_adapter(body["lora_path"], name)
            else:
                self.model = PeftModel.from_pretrained(self.base, body["lora_path"], adapter_name=name).eval()
            self.adapters.add(name)
        elif path == "/v1/unload_lora_adapter":
            self.adapters.remove(body["lora_name"])
            self.model.delete_adapter(body["lora_name"])
        elif path == "/update_weights_from_disk":
            self.model = self._loaded(body["model_path"])
            return 200, {"success": True, "message": ""}
        elif path == "/collective_rpc":
            self.model = self._loaded(body["kwargs"]["weights_path"])
        elif path != "/reset_prefix_cache":
            return 404, {"detail": "Not Found"}
        return 200, {}

    @torch.no_grad()
    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """The completion, its ids and the log-probs of the distribution it was drawn from (processed_logprobs)."""
        if body["model"] in self.adapters:
            self.model.set_adapter(body["model"])
        images, messages = [], []
        for message in body["messages"]:
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            images += [decoded(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]
            kept = [{"type": "image"} if part["type"] == "image_url" else part for part in parts]
            messages.append({"role": message["role"], "content": kept})
        text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = self.processor(text=[text], images=images or None, return_tensors="pt")
        drawn = {"temperature": body["temperature"], "top_p": body["top_p"], "top_k": max(0, body.get("top_k", 0))}
        stops = body.get("stop_token_ids", self.base.generation_config.eos_token_id)
        with torch.random.fork_rng():
            torch.manual_seed(body["seed"])
            made = self.model.generate(
                **inputs,
                **(drawn if body["temperature"] else {}),
                do_sample=body["temperature"] > 0,
                max_new_tokens=body["max_tokens"],
                suppress_tokens=[int(token) for token in body["logit_bias"]],
                eos_token_id=stops,
                pad_token_id=stops[0],
                output_scores=True,
                return_dict_in_generate=True,
            )
        prompt = inputs["input_ids"].shape[1]
        tokens = made.sequences[0, prompt:].tolist()
        logp = [float(s[0].float().log_softmax(-1)[t]) for s, t in zip(made.scores, tokens, strict=True)]
        ended = tokens[-1] in stops
        return {
            "usage": {"prompt_tokens": prompt, "completion_tokens": len(tokens)},
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop" if ended else "length",
                    "message": {"content": self.processor.tokenizer.decode(tokens, skip_special_tokens=True)},
                    "token_ids": tokens,
                    "logprobs": {"content": [{"token": "", "logprob": value} for value in logp]},
                }
            ],
        }


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        reply(self, 200, {"status": "ok"})


def start(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return http


def reply(handler: BaseHTTPRequestHandler, status: int, answer: Any) -> None:
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    try:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)
    except OSError:  # whoever asked has gone
        pass


def decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))


# -- faults --------------------------------------------------------------------------------------------------------


def stall(handler: BaseHTTPRequestHandler, answer: dict[str, Any]) -> None:
    time.sleep(5.0)
    handler.close_connection = True


def drip(handler: BaseHTTPRequestHandler, answer: dict[str, Any]) -> None:
    """A byte now and then, so that no single read takes long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    try:
        for _ in range(50):
            handler.wfile.write(b" ")
            time.sleep(0.1)
    except OSError:
        pass
    handler.close_connection = True


def drop(handler: BaseHTTPRequestHandler, answer: dict[str, Any]) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def says(status: int, content: Any) -> Fault:
    return lambda handler, answer: reply(handler, status, content)


def changed(change: Callable[[dict[str, Any]], Any]) -> Fault:
    """The honest answer, after `change` of its choice."""

    def send(handler: BaseHTTPRequestHandler, answer: dict[str, Any]) -> None:
        change(answer["choices"][0])
        reply(handler, 200, answer)

    return send


# -- transformers serve --------------------------------------------------------------------------------------------


@contextmanager
def transformers_serve(log: Path, *arguments: str) -> Iterator[str]:
    """The url of a real one, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mmrl.serving.transformers_serve", "--port", str(port), "--host", "127.0.0.1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as written:
        process = subprocess.Popen(
            [*command, "--device", "cpu", *arguments], stdout=written, stderr=written, env=environment
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                httpx.get(f"{url}/health", timeout=1.0)
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
