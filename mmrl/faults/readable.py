"""Media of a run are the files that were checked when it began; one that has changed since is found before its prompt
is used. What happens then is `data.bad_media`: the run stops, or the row is left out of the step and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from data_pipelines.media import BadMedia, probe
from mmrl import distributed
from mmrl.plugins import ConfigError
from mmrl.records import Sample


def changed(sample: Sample) -> str | None:
    """What is wrong with its files, as they are now. A look at time and size, unless these say that a file is new."""
    for media in sample.media:
        try:
            if probe(media.path, media.kind).digest != media.digest:
                return f"{media.path} is not the file that it was when the run began"
        except BadMedia as error:
            return str(error)
    return None


def readable(
    samples: Sequence[Sample],
    sizes: Sequence[int],
    *,
    bad_media: Literal["stop", "skip"],
    note: Callable[[Sample, str], None],
) -> tuple[list[Sample], list[int]]:
    """Those whose media are still there, the same on every rank; `note` is told of each other one and why. ConfigError
    if `bad_media` is `stop`, or if none is left."""
    here = {index: problem for index, sample in enumerate(samples) if (problem := changed(sample))}
    found = {index: problem for part in distributed.gather(here) for index, problem in part.items()}
    if not found:
        return list(samples), list(sizes)
    told = [f"{samples[index].where or samples[index].id}: {problem}" for index, problem in sorted(found.items())]
    if bad_media == "stop" or len(found) == len(samples):
        hint = "; data.bad_media=skip leaves such rows out." if bad_media == "stop" else ": the step has no other row."
        raise ConfigError("\n".join(told) + f"\n  Restore the files, then go on with `--resume`{hint}")
    for index, problem in sorted(found.items()):
        note(samples[index], problem)
    kept = [index for index in range(len(samples)) if index not in found]
    return [samples[index] for index in kept], [sizes[index] for index in kept]
