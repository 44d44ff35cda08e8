"""Short texts, made comparable."""

from __future__ import annotations


def normalised(text: str) -> str:
    """For comparing short answers: case folded, blanks collapsed, no full stop at the end."""
    return " ".join(text.casefold().split()).rstrip(".").rstrip()
