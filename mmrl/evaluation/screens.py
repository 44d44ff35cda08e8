"""Metrics of acting on screens: ScreenSpot's clicks, AITZ's steps."""

from __future__ import annotations

import math

from mmrl.evaluation.metrics import metric
from mmrl.records import Sample
from rewards.boxes import point_in_box
from rewards.parsing.actions import literal, position
from rewards.parsing.tags import last_tag

PLATFORMS = {
    "ios": "mobile", "android": "mobile", "windows": "desktop", "macos": "desktop", "linux": "desktop",
    "forum": "web", "gitlab": "web", "shop": "web", "tool": "web",
}  # fmt: skip
"""`data_source` or `platform` of an annotation -> what the benchmark's table calls it; others keep their name."""
NEAR = 0.2
"""Of AITZ's clicks, in shares of the image's sides; the reward `aitz_action` asks for 0.14."""


@metric(needs=("target.box",), source="ScreenSpot, arXiv 2401.10935; ScreenSpot-Pro, arXiv 2504.07981")
def screenspot(completion: str, sample: Sample) -> dict[str, float]:
    """`accuracy`: does the click lie in the box, edges included; and the same of every platform, type and group alone.

    `mobile/text`, `web/icon` and so on for v1 and v2; for Pro `CAD/icon`, by the group of its applications. The point
    is read as `point_in_box` reads it; a completion without one is wrong.
    """
    value = point_in_box(completion, sample).value
    meta, cells = sample.meta, {"accuracy": value}
    kind = meta.get("data_type")
    platform = meta.get("group") or meta.get("data_source") or meta.get("platform")
    where = PLATFORMS.get(str(platform).lower(), str(platform)) if platform else None
    if where:
        cells[where] = value
    if where and kind:
        cells[f"{where}/{kind}"] = value
    return cells


@metric(needs=("target.action",), source="AITZ steps in TON, arXiv 2505.16854")
def aitz(completion: str, sample: Sample) -> dict[str, float]:
    """`exact`: is the step right; `type`: is its action; both also of the right action alone (`exact/CLICK`); `read`.

    Exact is, of a click, a position at most 0.2 from the right one; of a typed text, that one contains the other,
    whatever the case; of other actions, the type. A completion whose action cannot be read is wrong in `exact` and
    `type`, and counts nowhere else, as in TON's evaluation; `read` is the share of those that can.
    """
    written = literal(last_tag(completion, "action") or "")
    name = _words(written.get("action")) if isinstance(written, dict) else ""
    if not isinstance(written, dict) or not name:
        return {"exact": 0.0, "type": 0.0, "read": 0.0}
    gold = _words(sample.target["action"])
    kind = "SCROLL" if gold.startswith("SCROLL") else "PRESS" if gold.startswith("PRESS") else gold
    right = exact = name == gold
    if right and gold == "CLICK":
        place, target = position(written.get("position")), position(sample.target.get("position"))
        exact = bool(place and target and math.dist(place, target) <= NEAR + 1e-9)
    elif right and gold == "TYPE":
        text, wanted = (str(value or "").strip().casefold() for value in (written.get("value"), sample.target["value"]))
        exact = bool(text) and (text in wanted or wanted in text)
    values = {"exact": float(exact), "type": float(right)}
    return {**values, **{f"{key}/{kind}": value for key, value in values.items()}, "read": 1.0}


def _words(name: object) -> str:
    """As AITZ's labels, whatever the case and with `_` as a blank: `STATUS TASK COMPLETE`."""
    return " ".join(name.replace("_", " ").upper().split()) if isinstance(name, str) else ""
