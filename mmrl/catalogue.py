"""The methods there are, read from the files that make them.

    configs/methods/NAME.yaml          laid over any recipe; its first line says which paper it is
    configs/papers/NAME_DATASET.yaml   the paper's run; a method without a recipe of its own is known by it
    configs/diffusion/NAME.yaml        the same for models that make images or videos
    scripts/train_NAME_DATASET.sh, docs/methods/NAME.md

No table is kept by hand.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mmrl.layering import merge
from mmrl.mappings import normalise_stages, read_yaml
from mmrl.plugins import ConfigError, nearest

PAPER = re.compile(r"arXiv (\d{4}\.\d{4,5})")
SLOTS = {"sampler": "sampler", "rollout": "rollout", "rewards": "reward", "advantages": "advantage", "loss": "loss"}
"""Keys of a recipe that hold stages, and what each changes."""
USUAL = {"shuffled", "on_policy", "kl"}
"""Stages that are no news, beside those of the base recipe."""


@dataclass(frozen=True)
class Method:
    """What there is of one method. Paths are relative to `root`, the folder that holds configs, scripts and docs."""

    name: str
    root: Path
    recipes: tuple[Path, ...]
    """The one that says what the method is comes first."""
    scripts: tuple[Path, ...]
    page: Path | None

    @property
    def recipe(self) -> Path:
        return self.recipes[0]

    @property
    def line(self) -> str:
        return first_line(self.root / self.recipe)

    @property
    def paper(self) -> str:
        """The number on arXiv, from the recipes or else the page; empty if neither has one."""
        texts = [first_line(self.root / recipe) for recipe in self.recipes]
        texts += [(self.root / self.page).read_text(encoding="utf-8")] if self.page and not self.shares_page else []
        # Recipes of one paper on many models begin with its name, as the module of what it adds does.
        modules = (file.read_text(encoding="utf-8") for file in (Path(__file__).parent / "methods").glob("*.py"))
        titles = (match for module in modules if (match := re.match(r'"""(.+?) \((arXiv [\d.]+)\)', module)))
        texts += [title[2] for title in titles if re.match(rf"{re.escape(title[1])}\b", self.line)]
        return next((match[1] for text in texts if (match := PAPER.search(text))), "")

    @property
    def shares_page(self) -> bool:
        return self.page is not None and self.page.stem != self.name

    @property
    def base(self) -> dict[str, Any]:
        kind = "diffusion" if self.recipe.parent.name == "diffusion" else "grpo"
        return normalise_stages(read_yaml(self.root / f"configs/base/{kind}.yaml"))

    @property
    def composition(self) -> dict[str, Any]:
        """The recipe's keys, a method's laid over the base that it needs."""
        return self._over_base(self.recipe)

    def _over_base(self, recipe: Path) -> dict[str, Any]:
        whole: dict[str, Any] = merge(self.base, normalise_stages(read_yaml(self.root / recipe)))
        return whole

    @property
    def changes(self) -> dict[str, list[str]]:
        """What is not plain GRPO: slot -> names of stages. `schedule`: settings that move; `data`: what is done to it.

        Of a method that is known by its papers' runs, all of them count.
        """
        several = self.recipe.parent.name == "papers"
        wholes = [self._over_base(recipe) for recipe in (self.recipes if several else self.recipes[:1])]
        found: dict[str, list[str]] = {what: [] for what in (*SLOTS.values(), "schedule")}
        for whole in wholes:
            for slot, what in SLOTS.items():
                usual = USUAL | {str(spec["name"]) for spec in stages_of(self.base, slot)}
                found[what] += [news_of(spec, usual) for spec in stages_of(whole, slot)]
            if (aggregate := whole["loss"].get("aggregate")) in ("constant", "sequence_sum"):
                found["loss"].append(f"sums, {aggregate}")
            found["schedule"] += scheduled(whole)
        found["data"] = self._data(wholes[0])
        once = {what: list(dict.fromkeys(filter(None, names))) for what, names in found.items()}
        return {what: names for what, names in once.items() if names}

    def _data(self, composition: Mapping[str, Any]) -> list[str]:
        steps = ["no labels"] if (composition.get("data") or {}).get("labels") == "withheld" else []
        for script in self.scripts:
            text = "\n".join(line for line in (self.root / script).read_text().splitlines() if line[:1] != "#")
            text = text.replace("\\\n", " ")
            steps += re.findall(r"^\s*make \S+ transform \S+ ([\w-]+)", text, re.MULTILINE)
            steps += re.findall(r"^\s*make \S+ (traces|select|reject)\b", text, re.MULTILINE)
            steps += ["cold start"] if re.search(r"^\s*cold_start ", text, re.MULTILINE) else []
        return list(dict.fromkeys(steps))


def news_of(spec: Mapping[str, Any], usual: set[str]) -> str:
    """The stage's name, with the setting that makes it another one; an empty text for a usual stage."""
    name = str(spec["name"])
    if spec.get("std") in ("none", "batch"):
        return f"{name} std={spec['std']}"
    low, high = spec.get("clip_low"), spec.get("clip_high")
    if name == "clipped" and low != high:
        return f"clipped {low:g}/{high:g}"
    return "" if name in usual else name


def first_line(file: Path) -> str:
    return file.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")


def stages_of(composition: Mapping[str, Any], slot: str) -> list[dict[str, Any]]:
    """The entries of a slot, each with its name."""
    value: Any = composition.get(slot) or []
    if slot == "loss":
        value = value.get("terms", []) if value else []
    return [value] if isinstance(value, dict) else list(value)


def scheduled(value: Any, key: str = "") -> Iterator[str]:
    """Names of the settings that are schedules; an optimizer's `schedule: linear` is a word and none."""
    if isinstance(value, dict) and "schedule" in value and key not in ("optimizer", ""):
        yield key
    elif isinstance(value, dict):
        for inner, part in value.items():
            yield from scheduled(part, f"{value['name']} {inner}" if "name" in value else str(inner))
    elif isinstance(value, list):
        for part in value:
            yield from scheduled(part, key)


def project_root() -> Path:
    """The working directory if it has `configs/methods`, else the checkout that mmrl runs from."""
    for folder in (Path(), Path(__file__).parents[1]):
        if (folder / "configs/methods").is_dir():
            return folder
    raise ConfigError("there is no configs/methods here; run `mmrl methods` in a checkout of mmrl.")


def catalogue(root: Path | None = None) -> list[Method]:
    """All methods, those laid over any recipe first, by name."""
    root = project_root() if root is None else root
    pages = sorted((root / "docs/methods").glob("*.md"))
    grouped: dict[str, list[Path]] = {}
    for folder in ("methods", "papers", "diffusion"):
        for file in sorted((root / "configs" / folder).glob("*.yaml")):
            grouped.setdefault(name_of(file, pages), []).append(file.relative_to(root))
    found = []
    for name, recipes in grouped.items():
        # A cold start says the least about a method: it comes last.
        recipes.sort(key=lambda recipe: recipe.parent.name == "papers" and "rewards" not in read_yaml(root / recipe))
        found.append(Method(name, root, tuple(recipes), scripts_of(root, name, recipes), page_of(root, name, pages)))
    return found


def name_of(file: Path, pages: list[Path]) -> str:
    """Of a paper's run: the docs page whose name its own begins with, or else the method it extends."""
    if file.parent.name != "papers":
        return file.stem
    stems = [page.stem for page in pages if f"{file.stem}_".startswith(f"{page.stem}_")]
    return max(stems, key=len) if stems else extends_method(file) or file.stem


def extends_method(file: Path) -> str | None:
    parents = re.search(r"^extends:(.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    for parent in re.findall(r"[\w./-]+", parents[1]) if parents else ():
        if parent.startswith("methods/"):
            return parent.removeprefix("methods/")
        beside = file.parent / f"{parent.removeprefix('papers/')}.yaml"
        if beside.is_file() and (found := extends_method(beside)):
            return found
    return None


def scripts_of(root: Path, name: str, recipes: list[Path]) -> tuple[Path, ...]:
    """Those that name a recipe of the method, or are named after it."""
    files = sorted((root / "scripts").glob("train_*.sh"))
    paths = [str(recipe) for recipe in recipes if recipe.parent.name != "methods"]
    wanted = [f for f in files if f.stem.startswith(f"train_{name}_") or any(p in f.read_text() for p in paths)]
    return tuple(file.relative_to(root) for file in wanted)


def page_of(root: Path, name: str, pages: list[Path]) -> Path | None:
    """The method's page, or the one that speaks of its recipe."""
    own = [page for page in pages if page.stem == name]
    named = [page for page in pages if re.search(rf"`{name}`|\b{name}\.yaml", page.read_text(encoding="utf-8"))]
    return next((page.relative_to(root) for page in [*own, *named]), None)


def method(name: str, root: Path | None = None) -> Method:
    methods = {found.name: found for found in catalogue(root)}
    if name not in methods:
        raise ConfigError(f"there is no method named {name}.\n  {nearest(name, methods)}")
    return methods[name]


def listing() -> Table:
    """Every method: paper, what it changes, recipe, script."""
    table = Table("name", "arXiv", "changes", "recipe", "script", title="methods", title_justify="left")
    for found in catalogue():
        changes = "\n".join(f"{what}: {', '.join(names)}" for what, names in found.changes.items())
        scripts = "\n".join(script.stem for script in found.scripts)
        table.add_row(found.name, found.paper, Text(changes), str(found.recipe).removeprefix("configs/"), scripts)
    return table


def detail(name: str) -> Group:
    """One method: its line, its stages with their settings and what each does, its files and how it is run."""
    from mmrl import registry
    from mmrl.plugins import load
    from rewards.registry import available

    found = method(name)
    composition = found.composition
    known = {"sampler": registry.SAMPLERS, "rollout": registry.ROLLOUTS, "rewards": available(),
             "advantages": registry.ADVANTAGES, "loss": registry.LOSSES}  # fmt: skip
    table = Table("slot", "stage", "settings", "what")
    for slot, what in SLOTS.items():
        for spec in stages_of(composition, slot):
            plugin = load(str(spec["name"]), known[slot], kind=what, where=str(found.recipe))
            settings = ", ".join(f"{key}={value}" for key, value in spec.items() if key != "name")
            doc = (inspect.getdoc(plugin) or "").split("\n\n")[0].replace("\n", " ")
            table.add_row(what, Text(str(spec["name"])), Text(settings), Text(doc))
    lines = [found.line]
    if numbers := [f"{key} {composition[key]}" for key in ("group_size", "prompts_per_step") if key in composition]:
        lines.append(", ".join([*numbers, f"losses summed by {composition['loss'].get('aggregate', 'token_mean')}"]))
    if found.paper:
        lines.append(f"https://arxiv.org/abs/{found.paper}")
    lines += [f"recipe: {recipe}" for recipe in found.recipes]
    lines += [f"script: {script}" for script in found.scripts]
    lines += [f"page: {found.page}"] if found.page else []
    if found.recipe.parent.name == "methods":
        lines.append(f"mmrl train YOUR_RECIPE.yaml {found.recipe}")
    return Group(Text(lines[0], style="bold"), table, Text("\n".join(lines[1:])))
