"""Numbers that stand on a coloured mark are black or white, whichever can be read better there."""

from __future__ import annotations

BLACK, WHITE = "#000000", "#ffffff"


def ink_on(colour: str) -> str:
    """For text on `#rrggbb`; the contrast is 4.5 or more, whatever the colour."""
    return max(BLACK, WHITE, key=lambda ink: contrast(ink, colour))


def contrast(one: str, other: str) -> float:
    """Ratio of two colours `#rrggbb`, 1 to 21, as WCAG 2.1 defines it; text wants 4.5."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    """Relative luminance, 0 to 1: the channels of sRGB made linear and weighted."""
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
