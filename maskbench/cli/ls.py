"""``maskbench ls``: runs, strategies, models and data kinds."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from maskbench.cli.options import AsJson, Debug, StoreDir
from maskbench.errors import UsageError, unknown

IN_THE_NAME = ("strategy", "model", "budget", "seed", "folder", "file")
"""What a run's name says already; left out of the table, not of the JSON."""


def ls(
    what: Annotated[
        str, typer.Argument(help="runs, strategies, models, data or benchmarks.")
    ] = "runs",
    out: StoreDir = Path("runs"),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List runs (default), strategies, models, data kinds or benchmarks.

    Examples:
      maskbench ls
      maskbench ls strategies --json
    """
    from maskbench.cli import render

    listings = {"runs": _runs, "strategies": _strategies, "models": _models, "data": _data}
    listings["benchmarks"] = _benchmarks
    if what not in listings:
        raise UsageError(unknown("listing", what, listings))
    rows = listings[what](out)
    if as_json:
        render.as_json(rows)
    elif rows:
        render.table(
            what, [{n: row.get(n) for n in rows[0] if n not in IN_THE_NAME} for row in rows]
        )
    else:
        render.say(f"no {what} in {out}/ yet: maskbench run --strategy random makes one.")


def _runs(out: Path) -> list[dict[str, Any]]:
    from maskbench.lock import held
    from maskbench.results import Store, brief

    records, refused = Store(out).records()
    rows = []
    for record in records:
        try:
            row = brief(record)
            if row["status"] == "running" and not held(Path(record["folder"])):
                row["status"] = "killed"
            rows.append(row)
        except (KeyError, TypeError, AttributeError) as error:
            refused.append(f"{record['folder']}: the record is not whole ({error!r})")
    return rows + [{"run": text, "status": "unreadable"} for text in refused]


def _strategies(out: Path) -> list[dict[str, Any]]:
    from maskbench import registry

    return [asdict(entry) for entry in registry.entries()]


def _models(out: Path) -> list[dict[str, Any]]:
    from maskbench.shape import PRESETS

    return [
        {
            "name": name,
            "use": p.use,
            "image": p.shape.image,
            "patch": p.shape.patch,
            "encoder": f"{p.shape.width} x {p.shape.depth}",
            "heads": p.shape.heads,
            "decoder": f"{p.shape.decoder_width} x {p.shape.decoder_depth}",
            "batch": p.batch,
            "base_lr": p.base_lr,
        }
        for name, p in PRESETS.items()
    ]


def _data(out: Path) -> list[dict[str, Any]]:
    from maskbench.data.kinds import KINDS

    return [{"name": name, "summary": summary} for name, summary in KINDS.items()]


def _benchmarks(out: Path) -> list[dict[str, Any]]:
    from maskbench.benchmark.reading import asked, shipped

    found = {name: asked(name) for name in shipped()}
    return [
        {"name": name, "runs": len(one.items), "question": one.question, "file": str(one.path)}
        for name, one in found.items()
    ]
