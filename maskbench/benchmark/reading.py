"""Which file a benchmark's name means, and what it asks for."""

import hashlib
import importlib.util
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskbench import strict
from maskbench.benchmark.schema import ArmError, Benchmark, Item
from maskbench.errors import UsageError, unknown
from maskbench.reproduce import schema as figures
from maskbench.results import plain_json

PACKAGE, FIGURES = figures.PACKAGE, figures.FOLDER
_OPTION, _SETTING = re.compile(r"--([a-z-]+)"), re.compile(r"(?:setting '|--set )([A-Za-z_.]+)")
REMEDY = "'maskbench ls benchmarks' lists whole files to look at."


@dataclass(frozen=True)
class Asked:
    """A benchmark as it is asked for: one tier of a file.

    Args:
        name: The file's name without its ending; the tier, if any, after ``@``.
        path: The file.
        title: A few words.
        question: What is asked.
        metric: By which arms are ranked.
        direction: ``higher`` or ``lower``: which values are better.
        baseline: The arm that others are compared with; None: the first.
        items: The runs, by name, in their order.
        resolved: Everything that was asked, as plain values.
        figure: Whether the file is of a paper's figure, with a claim to be judged.
    """

    name: str
    path: Path
    title: str
    question: str
    metric: str
    direction: str
    baseline: str | None
    items: Mapping[str, Item]
    resolved: dict[str, Any]
    figure: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of everything that was asked."""
        return hashlib.sha256(json.dumps(self.resolved, sort_keys=True).encode()).hexdigest()

    def origin(self, item: str) -> dict[str, str]:
        """What a run's record says about the benchmark that it was made for."""
        return {"name": self.name, "sha256": self.digest, "run": item}


def shipped() -> dict[str, Path]:
    """The files that come with maskbench, by name; figures of papers in their folder.

    Raises:
        UsageError: The package is not whole.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise UsageError(f"the package {PACKAGE} is not installed: reinstall maskbench (uv sync).")
    folder = Path(found.origin).parent
    own = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return own | {f"{FIGURES}/{name}": path for name, path in figures.shipped().items()}


def located(name: str) -> Path:
    """The file that a name or a path means.

    Raises:
        UsageError: There is none.
    """
    known, path = shipped(), Path(name)
    for key in (name, f"{FIGURES}/{name}"):
        if key in known:
            return known[key]
    if path.suffix != ".toml":
        raise UsageError(f"{unknown('benchmark', name, known)} Your own: path/to/benchmark.toml.")
    return path


def asked(name: str, tier: str | None = None, **given: Any) -> Asked:
    """What a file asks for, checked as far as that goes without data.

    Args:
        name: Of a shipped benchmark, or a file.
        tier: One of its tiers; None: the file's own choice.
        given: ``data``, ``model``, ``budgets`` or ``seeds`` instead of the file's; None: as it is.

    Raises:
        UsageError: No such file or tier, or something in it cannot be.
    """
    path = located(name)
    changed = {key: value for key, value in given.items() if value is not None}
    if is_figure(path):
        return _figure(path, tier, changed)
    file_of = strict.read(path, Benchmark, REMEDY)
    chosen = file_of.at(tier, **changed)
    tier = tier or file_of.tier
    try:
        items = chosen.items()
    except ArmError as error:
        raise UsageError(f"{placed(path, error.arm, error.message)} {REMEDY}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error} {REMEDY}") from error
    return Asked(
        name=f"{path.stem}@{tier}" if tier else path.stem,
        path=path,
        title=chosen.title,
        question=chosen.question,
        metric=chosen.metric,
        direction=chosen.direction,
        baseline=chosen.baseline,
        items={name: _beside(path.parent, item) for name, item in items.items()},
        resolved=chosen.resolved(),
    )


def _beside(folder: Path, item: Item) -> Item:
    """The same, with strategies in files found beside the benchmark's own."""
    parts = []
    for part in item.request.strategy.split("+"):
        file, colon, name = part.rpartition(":")
        there = colon and not Path(file).is_absolute() and (folder / file).is_file()
        parts.append(f"{(folder / file).resolve()}:{name}" if there else part)
    request = item.request.model_copy(update={"strategy": "+".join(parts)})
    return item.model_copy(update={"request": request})


def is_figure(path: Path) -> bool:
    """Whether a file is of a paper's figure; a file that cannot be read is not."""
    try:
        return "arms" in tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


def _figure(path: Path, tier: str | None, given: Mapping[str, Any]) -> Asked:
    """A paper's figure: the same runs as ``maskbench reproduce`` makes."""
    if tier:
        raise UsageError(f"{path} has no tiers: leave --tier out.")
    words = {{"budgets": "budget"}.get(key, key): value for key, value in given.items()}
    found = figures.read(path).changed(**words)
    items = {
        f"{arm}-s{seed}": Item(name=f"{arm}-s{seed}", arm=arm, request=request)
        for (arm, seed), request in found.requests().items()
    }
    return Asked(
        name=path.stem,
        path=path,
        title=path.stem,
        question=found.question,
        metric="fs-aulc",
        direction="higher",
        baseline=found.baseline,
        items=items,
        resolved=plain_json(found.model_dump(mode="json")),
        figure=True,
    )


def placed(path: Path, arm: str, message: str) -> str:
    """What is wrong with an arm, with the line that says so.

    Args:
        path: The file.
        arm: Its name.
        message: May name an option (``--hidden``) or a setting, in quotes.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        text = ""
    option, setting = _OPTION.search(message), _SETTING.search(message)
    own, settings = ("strategies", arm), ("strategies", arm, "settings")
    spots: list[tuple[tuple[str, ...], str]] = [(own, message), (("arms", arm), message)]
    if setting:
        said = message.replace("--set ", "settings: ")
        spots = [((*settings, setting[1]), said), (settings, said), (own, said), *spots]
    elif option:
        key = option[1].replace("-", "_")
        said = message.replace(option[0], key)
        of_key = ((*own, key), ("options", key), ("probes", key), (key,), (f"{key}s",))
        spots = [*((where, said) for where in of_key), *spots]
    for where, said in spots:
        line = strict.line_of(text, where)
        if line and line != strict.line_of(text, where[:-1]):
            return f"{path}, line {line}: {arm}: {said}"
    return f"{path}: {arm}: {message}"


def differences(before: Any, now: Any, at: str = "") -> list[str]:
    """What differs between two resolved benchmarks, a phrase each."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [*before, *(key for key in now if key not in before)]
        found = []
        for key in keys:
            where = f"{at}.{key}" if at else str(key)
            if key not in now:
                found.append(f"{where} is gone")
            elif key not in before:
                found.append(f"{where} is new")
            else:
                found += differences(before[key], now[key], where)
        return found
    return [] if before == now else [f"{at} was {json.dumps(before)}, is {json.dumps(now)}"]
