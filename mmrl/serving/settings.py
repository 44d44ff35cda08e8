"""The config's `server` section: where completions come from with `rollout.engine: server`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

ENGINES = ("in_process", "server")

Kind = Literal["openai", "vllm", "sglang", "transformers"]


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Servers that make the completions, all with the same model."""

    urls: list[str]
    """`http://host:port` of each; they share the work."""
    kind: Kind = "openai"
    """What the servers are, and so what they can do: `vllm` and `sglang` give token ids and log-probs, `transformers`
    (`transformers serve`) and any other (`openai`) text alone."""
    model: str = ""
    """The model's name on the servers, while they have not been given weights; default model.path."""
    concurrency: int = 32
    """Requests under way at each url, from each process of the training."""
    timeout: float = 600.0
    """Seconds for one completion, from the request to the end of the answer."""
    retries: int = 5
    """Further tries after a lost connection, a time-out, the answers 408, 429 and 5xx, and what is no completion."""
    api_key_env: str = ""
    """The environment variable that holds the servers' key."""
    weights: Literal["adapter", "checkpoint", "none"] = "checkpoint"
    """How fresh weights reach the servers: the LoRA `adapter`, the whole model as a `checkpoint`, or not from here
    (`none`), so that their age is not known. The servers read them from the run directory, under the same path."""
    weights_every: int = 1
    """Steps from one set of weights to the next."""
    staleness: int = 0
    """Most steps that completions may be behind the weights that learn from them. What `weights_every` leaves of it is
    how many steps are collected ahead, while others are learned. With `weights: none` it is those steps alone."""
    importance_cap: float | None = 2.0
    """Of the importance weights of tokens, where the servers give log-probs. None leaves them out."""


@dataclass(frozen=True)
class Abilities:
    """What a kind of server can do beside completing a chat."""

    tokens: bool
    """It gives the ids of the tokens, and their log-probs."""
    weights: tuple[str, ...]


ABILITIES: Mapping[str, Abilities] = {
    "openai": Abilities(tokens=False, weights=("none",)),
    "vllm": Abilities(tokens=True, weights=("adapter", "checkpoint", "none")),
    "sglang": Abilities(tokens=True, weights=("checkpoint", "none")),
    "transformers": Abilities(tokens=False, weights=("checkpoint", "none")),
}


def is_served(config: Any) -> bool:
    """Whether the completions of a `Config` come from servers."""
    return bool(config.rollout.get("engine") == "server")


def oldest(config: Any) -> int:
    """Steps that completions are behind at most if none is collected ahead; 0 for servers that are given no weights
    here, for how old theirs are is not known and bounded by nobody."""
    return 0 if config.server.weights == "none" else min(config.server.weights_every - 1, config.steps - 1)


def ahead(config: Any) -> int:
    """Steps that may be collected before it is their turn."""
    return int(config.server.staleness - oldest(config))


def warning(config: Any) -> str:
    """What an operator should know of the settings although they go together; "" if there is nothing."""
    server: ServerConfig = config.server
    if server.weights != "none":
        return ""
    if importance_stage(config):
        meant = f"Importance weights (at most {server.importance_cap:g}) correct for that, `mismatch/mean` shows it."
    elif ABILITIES[server.kind].tokens:
        meant = (
            "Without importance weights (server.importance_cap is null) nothing corrects for that; `mismatch/mean` "
            "shows it."
        )
    else:
        meant = (
            f"A server of kind `{server.kind}` gives no log-probs, so there are no importance weights and no "
            "`mismatch/mean`: completions are learned from as if the policy of that step had written them."
        )
    return (
        "server.weights = none: completions come from whatever weights the servers have. Unless somebody else updates "
        f"them, these are further from the policy with every step. {meant}"
    )


def importance_stage(config: Any) -> list[dict[str, Any]]:
    """The link that ends the advantage chain where servers give log-probs."""
    if not is_served(config) or not ABILITIES[config.server.kind].tokens or config.server.importance_cap is None:
        return []
    return [{"name": "truncated_importance", "cap": config.server.importance_cap}]


def problems(config: Any) -> list[str]:
    """What does not go together in a `Config`, in the order of the section; each with what to do."""
    engine = config.rollout.get("engine", "in_process")
    if engine not in ENGINES:
        return [f"rollout.engine = {engine}: one of {', '.join(ENGINES)}."]
    if engine == "in_process":
        return []
    server: ServerConfig | None = config.server
    if server is None:
        return ["rollout.engine is `server`, but there is no section `server`: server: {urls: [...], kind: vllm}."]
    able = ABILITIES[server.kind]
    found = []
    wrong = [url for url in server.urls if not url.startswith(("http://", "https://"))]
    if wrong or not server.urls or len(set(server.urls)) < len(server.urls):
        found.append(
            f"server.urls = {server.urls}: the http:// or https:// address of at least one server, each named once."
        )
    for name, least in (("concurrency", 1), ("retries", 0), ("weights_every", 1), ("staleness", 0)):
        if getattr(server, name) < least:
            found.append(f"server.{name} = {getattr(server, name)}: at least {least}.")
    if server.timeout <= 0:
        found.append(f"server.timeout = {server.timeout}: seconds, more than 0.")
    if server.importance_cap is not None and server.importance_cap <= 0:
        found.append(f"server.importance_cap = {server.importance_cap}: more than 0 (2 is usual), or null for none.")
    if server.weights not in able.weights:
        taking = "|".join(kind for kind, other in ABILITIES.items() if server.weights in other.weights)
        found.append(
            f"server.weights = {server.weights}: a server of kind `{server.kind}` cannot be given that. "
            f"Set server.weights={'|'.join(able.weights)} (none: its weights are somebody else's care), or, if that is "
            f"what runs there, server.kind={taking}, which take it."
        )
    if server.weights == "adapter" and config.model.adapter is None:
        found.append("server.weights = adapter, but model.adapter is not set; train an adapter, or take `checkpoint`.")
    if found:
        return found
    if ahead(config) < 0:
        found.append(
            f"server.weights_every = {server.weights_every}: completions get {oldest(config)} steps old; "
            f"server.staleness allows {server.staleness}. Set server.staleness={oldest(config)} or more."
        )
    if server.staleness and not able.tokens:
        found.append(
            f"server.staleness = {server.staleness} needs importance weights, and they need log-probs, which a server "
            f"of kind `{server.kind}` does not give. Set server.staleness=0, or use vllm or sglang."
        )
    if server.staleness and able.tokens and server.importance_cap is None:
        found.append(
            f"server.staleness = {server.staleness} needs importance weights: set server.importance_cap (2 is usual)."
        )
    return found
