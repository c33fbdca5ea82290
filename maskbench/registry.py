"""Strategies by name, through three doors: a built-in file, an entry point, ``mine.py:Mine``.

Listing reads class attributes from the source text; torch is imported only when a class is asked
for, and a stranger's file only when it is named.
"""

import ast
import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskbench.errors import StrategyError, UsageError, unknown

if TYPE_CHECKING:
    from maskbench.strategy import MaskStrategy

PACKAGE = "maskbench.strategies"
GROUP = "maskbench.strategies"
_FACTS = ("family", "source", "summary")


@dataclass(frozen=True)
class Entry:
    """What is known of a strategy without importing it.

    Args:
        name: What ``--strategy`` takes.
        family: Which kind it is.
        source: Where it comes from.
        summary: What it hides, and why, in one line.
    """

    name: str
    family: str
    source: str
    summary: str


def _folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise StrategyError(
            f"the package {PACKAGE} is not installed: reinstall maskbench (uv sync)."
        )
    return Path(spec.origin).parent


def _built_in() -> dict[str, Path]:
    """Name to file; helpers start with an underscore.

    Underscores become dashes, and one at the end is dropped: Windows allows no file ``aux.py``.
    """
    files = sorted(_folder().glob("[!_]*.py"))
    return {file.stem.rstrip("_").replace("_", "-"): file for file in files}


def _plugins() -> dict[str, Any]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _facts(tree: ast.Module) -> dict[str, str]:
    """Literal class attributes of the first class that states its family."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            facts = dict(pair for statement in node.body for pair in _literals(statement))
            if "family" in facts:
                return {"class": node.name, **{k: str(v) for k, v in facts.items()}}
    return {}


def _literals(statement: ast.stmt) -> list[tuple[str, object]]:
    """Names and values of ``a = "x"``, ``a: str = "x"`` and ``a, b = "x", "y"``."""
    if isinstance(statement, ast.AnnAssign):
        targets: list[ast.expr] = [statement.target]
    elif isinstance(statement, ast.Assign):
        targets = statement.targets
    else:
        return []
    pairs: list[tuple[ast.expr, ast.expr | None]] = []
    for target in targets:
        if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
            pairs += zip(target.elts, statement.value.elts, strict=False)
        else:
            pairs.append((target, statement.value))
    return [
        (name.id, value.value)
        for name, value in pairs
        if isinstance(name, ast.Name) and name.id in _FACTS and isinstance(value, ast.Constant)
    ]


def entries() -> list[Entry]:
    """Every registered strategy, by name; built-in files are read, not imported."""
    found = []
    for name, file in _built_in().items():
        facts = _facts(ast.parse(file.read_text(encoding="utf-8")))
        found.append(Entry(name, *(facts.get(fact, "") for fact in _FACTS)))
    for name, plugin in _plugins().items():
        where = plugin.dist.name if plugin.dist else "unknown distribution"
        found.append(Entry(name, "plug-in", where, f"entry point {plugin.value}"))
    return sorted(found, key=lambda entry: entry.name)


def load(name: str) -> "type[MaskStrategy]":
    """The class behind a name.

    Args:
        name: A built-in name, an entry point's name, ``path/to/file.py:Class``, or several of
            these joined by ``+``. A modifier alone is completed with ``random``.

    Raises:
        UsageError: No such name, file or class; the nearest known names are given; or parts that
            do not go together.
        StrategyError: The file cannot be imported, or the object is not a strategy.
    """
    from maskbench.compose import compose

    check_name(name)
    words = name.split("+")
    classes = [_load_one(word) for word in words]
    if all(cls.modifier for cls in classes):
        words, classes = [*words, "random"], [*classes, _load_one("random")]
    if len(classes) == 1:
        return classes[0]
    keys = [word.rpartition(":")[2].replace("-", "_") for word in words]
    return compose(name, list(zip(keys, classes, strict=True)))


def _load_one(name: str) -> "type[MaskStrategy]":
    built_in = _built_in()
    if name in built_in:
        facts = _facts(ast.parse(built_in[name].read_text(encoding="utf-8")))
        module = importlib.import_module(f"{PACKAGE}.{built_in[name].stem}")
        return _checked(name, getattr(module, facts.get("class", ""), None))
    path, colon, attribute = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _checked(name, _from_file(Path(path), attribute))
    return _checked(name, _plugins()[name].load())


def check_name(name: str) -> None:
    """Refuse a name behind which there can be no strategy; imports nothing.

    Raises:
        UsageError: No such built-in name or entry point, and not ``file.py:Class``.
    """
    known = {*_built_in(), *_plugins()}
    for part in name.split("+"):
        if part not in known and not part.rpartition(":")[0].endswith(".py"):
            raise UsageError(
                f"{unknown('strategy', part, known)} "
                "Your own: --strategy path/to/mine.py:ClassName."
            )


def _from_file(path: Path, attribute: str) -> object:
    if not path.is_file():
        raise UsageError(f"no strategy file at {path}: give an existing path, as in mine.py:Mine.")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    module_name = f"maskbench_user_{digest}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise StrategyError(
            f"{path} could not be imported: {type(error).__name__}: {error}. "
            "Mend the file, or see the whole traceback with --debug."
        ) from error
    if not hasattr(module, attribute):
        classes = [n for n, value in vars(module).items() if isinstance(value, type)]
        raise UsageError(unknown(f"class in {path}:", attribute, classes))
    return getattr(module, attribute)


def _checked(name: str, found: object) -> "type[MaskStrategy]":
    from maskbench.strategy import MaskStrategy

    if not (isinstance(found, type) and issubclass(found, MaskStrategy)):
        raise StrategyError(
            f"{name!r} is not a strategy: it must be a class derived from "
            f"maskbench.strategy.MaskStrategy, not {found!r}."
        )
    return found
