"""``maskbench ls``: runs, strategies, models and data kinds."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from maskbench.cli.options import AsJson, Debug, StoreDir
from maskbench.errors import UsageError, unknown


def ls(
    what: Annotated[
        str, typer.Argument(help="runs, strategies, models, data or benchmarks.")
    ] = "runs",
    stores: Annotated[
        list[str] | None,
        typer.Argument(help="Of runs: stores, or folders of stores; default: that of --out."),
    ] = None,
    out: StoreDir = Path("runs"),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List runs (default), strategies, models, data kinds or benchmarks.

    With --json a run has its settings, fingerprint of the data, accuracies, costs, machine,
    versions, commit, benchmark and folder.

    Examples:
      maskbench ls
      maskbench ls runs runs from-alice/ --json
      maskbench ls strategies --json
    """
    from maskbench.cli import render

    listings = {"strategies": _strategies, "models": _models, "data": _data}
    listings["benchmarks"] = _benchmarks
    if what == "runs":
        rows = _runs(stores or [], out)
    elif what not in listings:
        raise UsageError(unknown("listing", what, ["runs", *listings]))
    elif stores:
        raise UsageError(f"only runs lie in stores: 'maskbench ls runs {stores[0]}'.")
    else:
        rows = listings[what]()
    if as_json:
        render.as_json(rows)
    elif rows:
        _tell(what, rows)
    else:
        render.say(f"no {what} in {out}/ yet: maskbench run --strategy random makes one.")


def _tell(what: str, rows: list[dict[str, Any]]) -> None:
    """A table; of runs one per store, with what a terminal has room for."""
    from maskbench.cli import render
    from maskbench.report.listing import NARROW

    if what != "runs":
        render.table(what, [{n: row[n] for n in row if n != "file"} for row in rows])
        return
    stores = list(dict.fromkeys(row["store"] for row in rows))
    for store in stores:
        own = [{n: row.get(n) for n in NARROW} for row in rows if row["store"] == store]
        render.table(what if len(stores) == 1 else f"runs in {store}", own)
    for row in rows:
        if row["status"] == "unreadable":
            render.say(row["error"])


def _runs(names: list[str], out: Path) -> list[dict[str, Any]]:
    from maskbench.cli.stores import chosen, folders_of, stores_of
    from maskbench.errors import StoreError
    from maskbench.lock import held
    from maskbench.report import listing
    from maskbench.results import read_record

    folders = chosen(names, out) if names else [f for s in stores_of(out) for f in folders_of(s)]
    rows, refused = [], []
    for folder in folders:
        try:
            row = listing.row({**read_record(folder), "folder": str(folder)})
            if row["status"] == "running" and not held(folder):
                row["status"] = "killed"
            rows.append(row)
        except StoreError as error:
            refused.append(listing.unreadable(folder, str(error)))
        except (KeyError, TypeError, AttributeError) as error:
            why = f"{folder}: the record is not whole ({error!r})"
            refused.append(listing.unreadable(folder, why))
    return rows + refused


def _strategies() -> list[dict[str, Any]]:
    from maskbench import registry

    return [asdict(entry) for entry in registry.entries()]


def _models() -> list[dict[str, Any]]:
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


def _data() -> list[dict[str, Any]]:
    from maskbench.data.kinds import KINDS

    return [{"name": name, "summary": summary} for name, summary in KINDS.items()]


def _benchmarks() -> list[dict[str, Any]]:
    from maskbench.benchmark.reading import asked, shipped

    found = {name: asked(name) for name in shipped()}
    return [
        {"name": name, "runs": len(one.items), "question": one.question, "file": str(one.path)}
        for name, one in found.items()
    ]
