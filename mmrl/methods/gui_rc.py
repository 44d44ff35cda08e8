"""GUI-RC and GUI-RCPO (arXiv 2508.05615): the regions that a model names for one instruction vote for pixels.

Adds: `region_vote`, GUI-RC's decoding without training (`mmrl eval --vote region`). GUI-RCPO is the reward
`region_consistency` under GRPO; the geometry of both is `rewards/regions.py`. Differs from the code: regions are read
in the sample's convention and as the rewards read them, where it takes any four (or two) numbers of the whole text.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_pipelines.coordinates import from_pixels
from mmrl.evaluation.votes import Vote
from mmrl.records import Sample
from rewards.parsing.coordinates import image_of
from rewards.regions import consensus, region


def region_vote(completions: Sequence[str], sample: Sample, *, point_size: float = 50) -> Vote:
    """The click that the completions agree on: the centre of the largest part of the screen with the most votes.

    A completion votes for its box, or for the square of `point_size` pixels around its point; one without either has no
    vote. The click is written `(x, y)` in the sample's convention, so that a metric reads it like any completion.
    """
    boxes = [box for text in completions if (box := region(text, sample, point_size=point_size)) is not None]
    image = image_of(sample)
    found = consensus(boxes, image.size)
    if found is None:
        return Vote("", why="no region on the image")
    x, y = from_pixels(found.click, sample.coordinates, image.size, seen=image.seen)
    return Vote(
        f"({x:.6f}, {y:.6f})",
        parsed={"box": list(found.box), "point": list(found.click)},
        why=f"{found.votes} of {len(completions)} regions agree",
    )
