"""Numbers written in a text: all of them (`numbers`), or the one an answer consists of (`quantity`)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_UNSIGNED = r"[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?"
# ASCII digits only; a minus sign counts unless it joins two words or numbers, as in "10-20".
NUMBER = rf"(?:(?<![\w.])-)?(?:{_UNSIGNED}|(?<![\w.])\.[0-9]+)"
_NUMBERS = re.compile(NUMBER)
# In prose a comma before three digits separates thousands; after an opening bracket it separates coordinates.
_GROUPED = re.compile(r"(?<![\w.,(\[])([0-9]{1,3}(?:,[0-9]{3})+)(?![0-9]|,[0-9])")

_SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12} | {
    "k": 1e3, "m": 1e6, "mn": 1e6, "mln": 1e6, "b": 1e9, "bn": 1e9, "t": 1e12, "tn": 1e12,
}  # fmt: skip
# Blanks are single when this is tried. An ordinal ("2nd") and a quarter ("2019 Q2") have no unit, so are no quantity.
_QUANTITY = re.compile(
    rf"""
    (?:[~≈]\ ?|(?i:about|around|roughly|approximately)\ )?
    (?P<sign>[-+\u2212\u2013])?\ ?
    (?:[A-Z]{{0,3}}[$€£¥₹]\ ?|(?:USD|EUR|GBP|JPY|CNY|INR)\ )?
    (?P<inner>[-\u2212\u2013])?
    (?P<number>[0-9]{{1,3}}(?P<comma>[,\ ])[0-9]{{3}}(?:(?P=comma)[0-9]{{3}})*(?:\.[0-9]*)?|{_UNSIGNED}|\.[0-9]+)
    \ ?(?P<scale>(?:[kKMBT]|(?i:mn|mln|bn|tn|(?:thousand|million|billion|trillion)s?))(?![A-Za-z]))?
    \ ?(?P<percent>\\?%|(?i:percents?|percentage\ points?|per\ cent|pct|pp)(?![A-Za-z]))?
    \ ?(?P<unit>(?!(?i:st|nd|rd|th)\b)(?:(?:[kcm]?m|ft|in|mi)[23]|[A-Za-z°µ²³/$€£¥₹]+(?:\ [A-Za-z]+)?))?
    """,
    re.VERBOSE,
)


def last_number(text: str) -> float | None:
    """The last number of a sentence: `1,000` is a thousand there, and a typographic minus a minus."""
    plain = _GROUPED.sub(lambda match: match[1].replace(",", ""), text.replace("\u2212", "-"))
    found = numbers(plain)
    return found[-1] if found else None


def numbers(text: str) -> list[float]:
    """Every finite decimal number in the text, in order: `-3`, `2.5`, `1e3`."""
    return [value for value in map(float, _NUMBERS.findall(text)) if math.isfinite(value)]


@dataclass(frozen=True)
class Quantity:
    """A number with what is written around it."""

    written: float
    """The number, its scale word multiplied in: 12 for `12%`, 3.4e6 for `3.4 million`."""
    percent: bool = False
    unit: str = ""
    """Lower case, without a plural s."""

    @property
    def value(self) -> float:
        """The number meant; a percentage is a share, 0.12 for `12%`."""
        return self.written / 100 if self.percent else self.written

    def comparable(self, other: Quantity) -> bool:
        """Whether the units allow to compare the numbers: a unit counts only when both have one."""
        return not (self.unit and other.unit) or self.unit == other.unit


def quantity(text: str) -> Quantity | None:
    """The quantity that the text is, and nothing else; None for any other text and for a number that is not finite.

    A comma or a blank before three digits separates thousands (`1,234.5`; no decimal comma); a currency sign, Markdown
    emphasis, quotes, a final full stop and `about` are dropped; k, K, M, B, T and thousand, million, billion, trillion
    multiply; `%` and `percent` make a share; one or two words after it (`US dollars`, `km/h`, `m2`) are its unit.
    """
    match = _QUANTITY.fullmatch(" ".join(text.split()).strip(" *\"'`").rstrip(". "))
    if match is None:
        return None
    value = float(match["number"].replace(",", "").replace(" ", ""))
    value *= _SCALES[match["scale"].lower().rstrip("s")] if match["scale"] else 1
    if not math.isfinite(value):
        return None
    negative = (match["sign"] or "+") != "+" or bool(match["inner"])
    unit = (match["unit"] or "").casefold().rstrip("s")
    return Quantity(-value if negative else value, percent=match["percent"] is not None, unit=unit)
