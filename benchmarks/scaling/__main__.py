"""The tables and the picture of docs/scaling.md: memory and time per step, and where mmrl ends.

python -m benchmarks.scaling                      prints the tables of the model: seconds
python -m benchmarks.scaling --check              and the formulas against mmrl's code: some minutes of one core
python -m benchmarks.scaling --check --write      and puts all of them into docs/scaling.md, with its picture
"""

from __future__ import annotations

import argparse
import re
import warnings
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="count what the formulas predict")
    parser.add_argument("--write", action="store_true", help="into docs/scaling.md")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    from benchmarks.scaling import tables

    found = tables.of_the_model() | tables.of_the_limits()
    if arguments.check:
        found["checks"] = tables.checks()
    for name, table in found.items():
        print(f"\n{name}\n\n{table}")
    if arguments.write:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
        tables.draw(PAGE.parent / "scaling.png")


def with_tables(page: str, tables: dict[str, str]) -> str:
    """The page with every `<!-- table: NAME -->` ... `<!-- end -->` filled anew."""
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(page):
            raise SystemExit(f"{PAGE} has no place for the table {name}: <!-- table: {name} --> and <!-- end -->.")
        page = pattern.sub(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", page)
    return page


if __name__ == "__main__":
    main()
