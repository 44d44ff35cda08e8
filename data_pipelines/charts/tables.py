"""Tables to draw charts of: those that the package `vega_datasets` ships, described by hand, and a user's CSV files.

A `Table` says of every column it uses what may be done with it; `views.py` relies on that and on nothing else.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data_pipelines.reading import Problem, csv_rows
from mmrl.plugins import ConfigError

Cell = str | float | None
Records = list[dict[str, Cell]]

MOST_ROWS = 100_000
"""Rows of a CSV file."""
MOST_KINDS = 200
"""Different texts in a column that still is a category."""
LONGEST_NAME = 40
"""Characters of a text that can stand at an axis."""
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Number:
    """A column of numbers."""

    label: str
    unit: str = ""
    additive: bool = False
    """Sums over rows mean something, so it may be stacked and shared out; other numbers are averaged."""

    @property
    def titled(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class Table:
    """Rows with named columns; a cell is a text (category, step), a number, or None where it is missing."""

    name: str
    rows: Records
    categories: dict[str, str]
    """Column -> label; texts without an order."""
    steps: dict[str, str]
    """Column -> label; texts in order (years, months), as a line follows them."""
    numbers: dict[str, Number]
    panel: bool = False
    """A row is one observation of (categories, steps), as in statistics by year: keys that a chart does not show are
    fixed to one value. Otherwise rows are individuals, and groups of them are counted, averaged or summed."""
    counted: str = ""
    """What one row is, in the plural, where rows are individuals: `cars`."""

    def kinds(self, column: str) -> list[str]:
        """The different texts of a column, in the order of the table; steps sorted where they are years or dates."""
        found = list(dict.fromkeys(str(row[column]) for row in self.rows if row[column] is not None))
        if column in self.steps and all(re.fullmatch(r"\d{4}(-\d\d)*", text) for text in found):
            return sorted(found)
        if column in self.steps and set(found) <= set(MONTHS):
            return sorted(found, key=MONTHS.index)
        return found


def read_csv_table(path: str | Path) -> Table:
    """A user's CSV with a header line, its columns told apart by what they hold.

    Numbers in every filled cell: a number, or a step if the column is called year or all are years (1500 to 2100).
    Otherwise a category if it repeats or the table is short, a step if its name has `year`, `month`, `date` or
    `quarter`; columns of longer texts are left out. Rows are a panel if no two have the same categories and steps.
    ConfigError says what the file lacks.
    """
    path = Path(path)
    rows: list[dict[str, str]] = []
    for where, row in csv_rows(path):
        if isinstance(row, Problem):
            raise ConfigError(f"{where}: {row.message}.")
        rows.append({key.strip(): value.strip() for key, value in row.items()})
        if len(rows) > MOST_ROWS:
            raise ConfigError(f"{path}: more than {MOST_ROWS:,} rows; give a chart's worth of them.")
    if not rows:
        raise ConfigError(f"{path}: there are no rows under a header line.")
    categories: dict[str, str] = {}
    steps: dict[str, str] = {}
    numbers: dict[str, Number] = {}
    for column in rows[0]:
        texts = [row.get(column, "") for row in rows]
        filled = [text for text in texts if text]
        values = [_number(text) for text in filled]
        timed = re.search(r"year|month|date|quarter", column, re.IGNORECASE) is not None
        label = _label(column)
        if filled and all(value is not None for value in values):
            years = all(re.fullmatch(r"\d{4}", text) and 1500 <= int(text) <= 2100 for text in filled)
            if years and (timed or len(set(filled)) == len(filled)):
                steps[column] = label
            else:
                match = re.fullmatch(r"(.*\S)\s*[(\[](.+)[)\]]", label)
                numbers[column] = Number(match[1], match[2]) if match else Number(label)
        elif filled and max(map(len, filled)) <= LONGEST_NAME and len(set(filled)) <= MOST_KINDS:
            (steps if timed else categories)[column] = label
    keys = [*categories, *steps]
    if not numbers or not keys:
        lacking = "column of numbers" if not numbers else "column of short texts or years to stand at an axis"
        raise ConfigError(f"{path}: a chart needs a {lacking}, and there is none among {', '.join(rows[0]) or 'none'}.")
    records: Records = [
        {column: _number(row.get(column, "")) if column in numbers else row.get(column) or None
         for column in [*keys, *numbers]} for row in rows
    ]  # fmt: skip
    panel = len({tuple(row[key] for key in keys) for row in records}) == len(records)
    return Table(path.stem, records, categories, steps, numbers, panel=panel, counted="" if panel else "rows")


def vega_table(name: str) -> Table:
    """One of `VEGA_TABLES`; ConfigError if the package is not installed or there is no such table."""
    if name not in VEGA_TABLES:
        raise ConfigError(f"tables: there is no table `{name}`; there are {', '.join(VEGA_TABLES)}, and files *.csv.")
    return _vega_table(name)


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", "")) if re.fullmatch(r"[-+]?[\d.,]+([eE][-+]?\d+)?", text) else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None


def _label(column: str) -> str:
    return " ".join(re.sub(r"[_\s]+", " ", column).split())[:LONGEST_NAME]


@cache
def _vega_table(name: str) -> Table:
    return VEGA_TABLES[name]()


def _shipped(file: str) -> Iterator[dict[str, Any]]:
    """Rows of a file inside the package, numbers as numbers."""
    spec = importlib.util.find_spec("vega_datasets")
    if spec is None or spec.origin is None:
        raise ConfigError("The tables of charts are in `vega_datasets`: pip install 'mmrl-vision[charts]', or set csv.")
    path = Path(spec.origin).parent / "_data" / file
    if path.suffix == ".json":
        yield from json.loads(path.read_text(encoding="utf-8"))
        return
    for where, row in csv_rows(path):
        if isinstance(row, Problem):
            raise ConfigError(f"{where}: {row.message}.")
        yield {key: text if _number(text) is None else _number(text) for key, text in row.items()}


def _table(name: str, rows: Iterator[dict[str, Any]], keys: dict[str, str], steps: dict[str, str],
           numbers: dict[str, Number], **rest: Any) -> Table:  # fmt: skip
    columns = [*keys, *steps]
    kept: Records = [
        {**{key: None if row.get(key) is None else str(row[key]) for key in columns},
         **{key: row.get(key) for key in numbers}} for row in rows
    ]  # fmt: skip
    return Table(name, kept, keys, steps, numbers, **rest)


def _cars() -> Table:
    rows = ({**row, "Year": row["Year"][:4]} for row in _shipped("cars.json"))
    return _table("cars", rows, {"Origin": "origin", "Cylinders": "number of cylinders"}, {"Year": "year"}, {
        "Miles_per_Gallon": Number("fuel economy", "miles per gallon"), "Horsepower": Number("power", "hp"),
        "Weight_in_lbs": Number("weight", "lbs"), "Acceleration": Number("time to 60 mph", "s"),
        "Displacement": Number("engine displacement", "cubic inches")}, counted="cars")  # fmt: skip


def _barley() -> Table:
    return _table("barley", _shipped("barley.json"), {"site": "site", "variety": "variety", "year": "year"}, {},
                  {"yield": Number("barley yield", "bushels per acre")}, panel=True)  # fmt: skip


def _iowa() -> Table:
    rows = ({**row, "year": row["year"][:4]} for row in _shipped("iowa-electricity.csv"))
    return _table("iowa-electricity", rows, {"source": "source"}, {"year": "year"},
                  {"net_generation": Number("electricity generated in Iowa", "GWh", additive=True)},
                  panel=True)  # fmt: skip


def _stocks() -> Table:
    names = {"MSFT": "Microsoft", "AMZN": "Amazon", "IBM": "IBM", "GOOG": "Google", "AAPL": "Apple"}
    rows = ({**row, "symbol": names[row["symbol"]], "year": row["date"][-4:]} for row in _shipped("stocks.csv"))
    return _table("stocks", rows, {"symbol": "company"}, {"year": "year"},
                  {"price": Number("mean share price", "US dollars")}, panel=True)  # fmt: skip


def _employment() -> Table:
    sectors = {
        "construction": "Construction", "manufacturing": "Manufacturing", "retail_trade": "Retail trade",
        "wholesale_trade": "Wholesale trade", "information": "Information", "government": "Government",
        "financial_activities": "Finance", "leisure_and_hospitality": "Leisure", "utilities": "Utilities",
        "mining_and_logging": "Mining and logging", "transportation_and_warehousing": "Transport",
    }  # fmt: skip
    rows = (
        {"sector": label, "year": row["month"][:4], "jobs": row[column]}
        for row in _shipped("us-employment.csv") for column, label in sectors.items()
    )  # fmt: skip
    return _table("us-employment", rows, {"sector": "sector"}, {"year": "year"},
                  {"jobs": Number("number of jobs in the United States", "thousands", additive=True)},
                  panel=True)  # fmt: skip


def _seattle() -> Table:
    rows = (
        {**row, "year": row["date"][:4], "month": MONTHS[int(row["date"][5:7]) - 1]}
        for row in _shipped("seattle-weather.csv")
    )
    return _table("seattle-weather", rows, {"weather": "weather", "year": "year"}, {"month": "month"}, {
        "precipitation": Number("precipitation in Seattle", "mm", additive=True),
        "temp_max": Number("daily maximum temperature in Seattle", "°C"),
        "wind": Number("wind speed in Seattle", "m/s")}, counted="days in Seattle")  # fmt: skip


def _temperatures() -> Table:
    days: dict[tuple[str, str], list[float]] = {}
    for file, city in (("seattle-temps.csv", "Seattle"), ("sf-temps.csv", "San Francisco")):
        for row in _shipped(file):
            days.setdefault((city, row["date"][:10]), []).append(row["temp"])
    rows = (
        {"city": city, "month": MONTHS[int(day[5:7]) - 1], "temp": round(sum(temperatures) / len(temperatures), 1)}
        for (city, day), temperatures in days.items()
    )
    return _table("city-temperatures", rows, {"city": "city"}, {"month": "month"},
                  {"temp": Number("mean temperature in 2010", "°F")}, panel=True)  # fmt: skip


def _wheat() -> Table:
    return _table("wheat", _shipped("wheat.json"), {}, {"year": "year"}, {
        "wheat": Number("price of a quarter of wheat", "shillings"), "wages": Number("weekly wage", "shillings")},
        panel=True)  # fmt: skip


def _crimea() -> Table:
    causes = {"wounds": "Wounds", "disease": "Disease", "other": "Other causes"}
    rows = (
        {"cause": label, "month": row["date"][:7], "deaths": row[column]}
        for row in _shipped("crimea.json") for column, label in causes.items()
    )  # fmt: skip
    return _table("crimea", rows, {"cause": "cause"}, {"month": "month"},
                  {"deaths": Number("number of deaths in the Crimean War", additive=True)}, panel=True)  # fmt: skip


def _driving() -> Table:
    return _table("driving", _shipped("driving.json"), {}, {"year": "year"}, {
        "miles": Number("distance driven per person in a year", "miles"),
        "gas": Number("price of a gallon of gas", "US dollars")},
        panel=True)  # fmt: skip


def _iris() -> Table:
    return _table("iris", _shipped("iris.json"), {"species": "species"}, {}, {
        "sepalLength": Number("sepal length", "cm"), "sepalWidth": Number("sepal width", "cm"),
        "petalLength": Number("petal length", "cm"), "petalWidth": Number("petal width", "cm")},
        counted="flowers")  # fmt: skip


def _airports() -> Table:
    rows = (row for row in _shipped("airports.csv") if row["country"] == "USA" and row["state"] != "NA")
    return _table("airports", rows, {"state": "state"}, {}, {"latitude": Number("latitude", "°N")},
                  counted="airports in the United States")  # fmt: skip


VEGA_TABLES: dict[str, Callable[[], Table]] = {
    "cars": _cars,
    "barley": _barley,
    "iowa-electricity": _iowa,
    "stocks": _stocks,
    "us-employment": _employment,
    "seattle-weather": _seattle,
    "city-temperatures": _temperatures,
    "wheat": _wheat,
    "crimea": _crimea,
    "driving": _driving,
    "iris": _iris,
    "airports": _airports,
}
"""Name -> reader of a table that `vega_datasets` ships."""
