"""How fast maskbench is, as ratios in one run: every part, or those that are named.

    uv run --group bench python -m benchmarks.speed [PART ...] [--quick] [--json] [--save] [--docs]
    uv run --group bench python -m benchmarks.speed step --only vit_base --save
    uv run python -m benchmarks.speed published --code FOLDER

``--save`` keeps the numbers with the machine and the versions under ``results/``, of ``step`` and
``strategies`` as soon as they are known; ``--docs`` puts what is kept there into ``docs/speed.md``,
and measures nothing.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.speed import show

PARTS = {
    "step": "the plain training step against others and against matrix products",
    "strategies": "every strategy against random, beside its closed-form FLOPs",
    "harness": "images/s inside a run against the bare step loop",
    "data": "reading, augmentation, packing",
    "growth": "time per image and memory from a thousand to a million images",
    "start": "commands that only read",
    "published": "clmae against the code that was published with it, which --code names",
}
ELSEWHERE = "published"
"""Needs code that is not here, and is measured only where it is named."""
SETTINGS = {"step": "setting", "strategies": "model", "published": "setting"}
"""Parts with several settings, and the column that names them."""
ALIKE = ("commit", "versions", "device")
RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[2] / "docs" / "speed.md"


def keep(found: show.Found) -> Path:
    """Write a part's numbers to its file, a device each."""
    path = RESULTS / f"{found['part']}-{found['provenance']['device']['kind']}.json"
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        found = merged(found, json.loads(path.read_text(encoding="utf-8")))
    path.write_text(f"{json.dumps(found, indent=1)}\n", encoding="utf-8")
    return path


def merged(found: show.Found, earlier: show.Found) -> show.Found:
    """With earlier rows of other settings, if code, versions and machine are those of now."""
    column = SETTINGS.get(found["part"])
    same = all(found["provenance"][k] == earlier["provenance"][k] for k in ALIKE)
    if not (column and same and found["quick"] == earlier["quick"]):
        return found
    new = {row[column] for row in found["rows"]}
    rows = [*(row for row in earlier["rows"] if row[column] not in new), *found["rows"]]
    return {**found, "batches": earlier["batches"] | found["batches"], "rows": rows}


def rendered(page: str, kept: Mapping[str, show.Found]) -> str:
    """A page of documentation with its tables made anew.

    Args:
        page: Has ``<!-- NAME -->`` and ``<!-- /NAME -->`` around every table.
        kept: Numbers by the name of their file.
    """

    def table(match: re.Match[str]) -> str:
        name = match.group(1)
        body = told(kept[name]) if name in kept else "Not measured yet."
        return f"<!-- {name} -->\n{body}\n<!-- /{name} -->"

    return re.sub(r"<!-- ([a-z-]+) -->\n.*?<!-- /\1 -->", table, page, flags=re.DOTALL)


def told(found: show.Found) -> str:
    """A part's table in Markdown, with where it was measured."""
    of = found["provenance"]
    versions = ", ".join(f"{name} {of['versions'][name]}" for name in ("python", "torch", "timm"))
    device = of["device"]["gpu"] or f"{of['device']['cores']} cores of {of['device']['cpu']}"
    commit, _, dirty = (of["commit"] or "not known").partition("-")
    when = f"{of['started'][:10]}, commit {commit[:10]}{' and changes' if dirty else ''}"
    load = "" if of["load"] is None else f"; load {of['load']:.1f} at the end"
    return f"{show.table(found['rows'], 'github')}\n\n{device}; {versions}; {when}{load}."


def kept() -> dict[str, show.Found]:
    """All that is kept, by the name of its file."""
    files = sorted(RESULTS.glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def main() -> None:
    """Measure, print, keep."""
    parts = "; ".join(f"{name}: {about}" for name, about in PARTS.items())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", epilog=parts)
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all of them")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and settings")
    parser.add_argument(
        "--only", metavar="SETTING", help="of a part that has several: this one alone"
    )
    parser.add_argument("--code", metavar="FOLDER", type=Path, help="for published: a checkout")
    parser.add_argument("--json", action="store_true", help="a JSON document per line on stdout")
    parser.add_argument("--save", action="store_true", help="keep the numbers under results/")
    parser.add_argument("--docs", action="store_true", help="put kept numbers into docs/speed.md")
    given = parser.parse_args()
    if given.docs:
        PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8"), kept()), encoding="utf-8")
        return
    for name in given.parts:
        if name not in PARTS:
            parser.error(f"no part {name!r}; there are {', '.join(PARTS)}")
    if given.only and not (given.parts and set(given.parts) <= set(SETTINGS)):
        parser.error(f"--only is for {' and '.join(SETTINGS)}")
    if (ELSEWHERE in given.parts) != (given.code is not None):
        parser.error(f"{ELSEWHERE} and --code FOLDER go together")
    for name in given.parts or [name for name in PARTS if name != ELSEWHERE]:
        print(f"{name}: {PARTS[name]} ...", file=sys.stderr, flush=True)

        def save(found: show.Found, name: str = name) -> Path | None:
            return keep(show.recorded(name, found, given.quick)) if given.save else None

        measure = import_module(f"benchmarks.speed.{name}").measure
        found = measure(given.quick, **_settings(name, given, save))
        told = show.recorded(name, found, given.quick)
        print(json.dumps(told) if given.json else f"{show.table(found['rows'])}\n", flush=True)
        if given.save:
            print(f"kept in {save(found)}", file=sys.stderr)


def _settings(name: str, given: argparse.Namespace, save: Any) -> dict[str, Any]:
    code = {"code": given.code} if name == ELSEWHERE else {}
    return {"only": given.only, "so_far": save, **code} if name in SETTINGS else {}


if __name__ == "__main__":
    main()
