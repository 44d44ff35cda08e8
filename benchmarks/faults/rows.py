"""A row of the campaign's table, added up while its scenario happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.faults.checks import Findings
from benchmarks.faults.place import Trial


@dataclass
class Row:
    scenario: str
    found: Findings = field(default_factory=Findings)
    times: int = 0
    struck: dict[str, int] = field(default_factory=dict)
    """Faults by what was being written (`Trial.struck`)."""
    resumed: int = 0
    ends: dict[int, int] = field(default_factory=dict)
    """Processes that did not come to their end, by exit code."""
    seconds: float = 0.0
    skipped: str = ""

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Row:
        """From what JSON has made of one."""
        ends = {int(code): count for code, count in fields["ends"].items()}
        return cls(**{**fields, "found": Findings(**fields["found"]), "ends": ends})

    def wants(self, count: int, trial: Trial | None = None) -> bool:
        """Whether there is more to happen, or to this trial; nothing more after a problem."""
        if trial is not None and (trial.found.problems or trial.at_its_end()):
            return False
        return self.times < count and not self.found.problems

    def strike(self, trial: Trial, code: int | None = None, *, media: bool = True) -> None:
        """A process of the trial is gone, or only hurt (None)."""
        self.times += 1
        if code is not None:
            self.ends[code] = self.ends.get(code, 0) + 1
            where = trial.struck(media=media)
            self.struck[where] = self.struck.get(where, 0) + 1

    def done(self, trial: Trial) -> None:
        self.found.add(trial.finish())
        self.resumed += trial.resumed
