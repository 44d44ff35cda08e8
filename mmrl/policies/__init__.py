"""Policies: what generates completions and gives their log-probs. `vlm.py` for vision-language models."""
