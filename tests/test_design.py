"""The map of docs/design.md knows every module of mmrl, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_map_of_the_design_is_that_of_the_tree():
    layout = (ROOT / "docs/design.md").read_text().split("## 2. Layout")[1].split("```")[1]
    here = layout[layout.index("\nmmrl/") : layout.index("\nrewards/")]
    named = set(re.findall(r"\b\w+\.py\b(?!:\w)|\b\w+(?=/)", here)) - {"mmrl"}
    top = {path.name for path in (ROOT / "mmrl").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    policies = {path.name for path in (ROOT / "mmrl/policies").glob("*.py")}
    assert top - {"__main__.py"} <= named and policies <= named | {"__init__.py"}, (top | policies) - named
    assert named - top - policies <= {"assets", "web"}, named - top - policies
