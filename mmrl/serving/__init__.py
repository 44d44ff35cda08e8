"""Rollout servers: completions from any OpenAI-compatible endpoint (`rollout.engine: server`), log-probs of our own.

settings.py      the config's `server` section, what each kind of server can do, and what does not go together
client.py        HTTP: several servers, time limits, retries; what comes back is trusted in nothing
dialects.py      a prompt with pictures as a chat request, an answer as tokens and log-probs
policy.py        `ServedPolicy`: the policy, with completions from servers
weights.py       fresh weights to the servers: LoRA adapters or whole checkpoints
collecting.py    the next step's completions made while this one is learned
importance.py    what is left between server and trainer: truncated importance weights, and numbers for it
mismatch.py      `python -m mmrl.serving.mismatch`: the same for a server that gives no log-probs
transformers_serve.py    `transformers serve`, also without torchvision's operators

How to use it: docs/rollout_servers.md.
"""
