"""Everything the terminal shows; the only user of rich. Data to stdout, talk to stderr."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from rich import markup
from rich.console import Console
from rich.table import Table

from maskbench.budget import Budget
from maskbench.cli.accuracies import accuracies, others, percent
from maskbench.cli.planned import plan_rows, used
from maskbench.report.words import big, duration
from maskbench.results import lacking
from maskbench.trust import plain


def escape(text: Any) -> str:
    """A text that rich and the terminal show as it is: no markup, no escape codes."""
    return markup.escape(plain(text))


def line(text: str = "") -> None:
    """Plain text on stdout, as wide as it is."""
    print(plain(text, lines=True))


def as_json(value: Any) -> None:
    """One JSON document on stdout, nothing else."""
    pieces = json.JSONEncoder(indent=1, allow_nan=False).iterencode(value)
    while some := "".join(islice(pieces, 10_000)):  # writing each by itself takes twice as long
        sys.stdout.write(some)
    sys.stdout.write("\n")


def say(text: str) -> None:
    """A line of talk, on stderr."""
    print(plain(text, lines=True), file=sys.stderr)


@contextmanager
def busy(text: str) -> Iterator[None]:
    """A spinner on stderr, gone afterwards; nothing when stderr is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(escape(text)):
        yield


def verdict(row: Mapping[str, Any]) -> None:
    """A clause of the contract: kept, skipped and why, or broken and how."""
    word, text, rest = "[green]ok[/]", row["meaning"], []
    if row["skipped"]:
        word, text = "[dim]skipped[/]", row["skipped"]
    elif not row["passed"]:
        word, rest = "[bold red]FAILED[/]", ["expected", "seen"]
    grid = Table.grid(padding=(0, 2, 0, 0))
    for width in (7, 13, None):
        grid.add_column(width=width, overflow="fold")
    grid.add_row(word, escape(row["clause"]), escape(text))
    for label in rest:
        grid.add_row("", f"[dim]{label:>13}[/]", escape(row[label]))
    Console(highlight=False).print(grid)


def plan(forecast: Any) -> None:
    """What a run is about to take, on stderr, terminal or not."""
    rows = plan_rows(forecast)
    amounts = " = ".join(rows[name] for name in ("images", "epochs", "steps", "FLOPs"))
    say(f"plan  {Budget.parse(forecast.budget).short()} = {amounts}")
    say(f"      {rows['time']}; {rows['memory']}; {rows['disk']}")
    for warning in forecast.warnings:
        say(f"note  {warning}")


def dry_run(forecast: Any, finished: Path | None) -> None:
    """The plan of a run that is not begun, on stdout."""
    shown = Table(show_header=False, box=None, pad_edge=False)
    for name, words in {"budget": forecast.budget, **plan_rows(forecast)}.items():
        shown.add_row(name, escape(words))
    Console(highlight=False).print(shown)
    for warning in forecast.warnings:
        say(f"note  {warning}")
    if finished:
        line(f"a run with these settings is finished already: {finished}")


def tuning(found: Any, path: Path) -> None:
    """Which learning rates were tried, and which was chosen."""
    score = f"{found.shots}-shot %"
    rows = [
        {
            "lr": trial.base_lr,
            "factor": trial.factor,
            score: "diverged" if trial.accuracy is None else percent(trial.accuracy),
            "chosen": "yes" if trial.base_lr == found.base_lr else "",
        }
        for trial in found.trials
    ]
    table(f"learning rates, on development images, seed {found.seed}", rows)
    ends = {found.trials[0].base_lr, found.trials[-1].base_lr}
    if found.base_lr in ends:
        say("the best rate is at the end of the grid: one further out may be better still.")
    say("'maskbench run --lr tuned' with the same options uses it.")
    Console(highlight=False).print(f"kept  {escape(str(path))}", soft_wrap=True)


def run_table(
    folder: Path, record: Mapping[str, Any], *, reused: bool = False, details: bool = False
) -> None:
    """How a run ended: accuracy beside controls, cost, and where it lies."""
    console = Console()
    if reused:
        again = "" if record.get("benchmark") else "; --fresh runs it again in a new folder"
        say(f"this run was finished before{again}.")
    title = f"{record['strategy']['name']}, seed {record['seed']}, {record['status']}"
    rows = [*record["probes"], *record["controls"]]
    if rows:
        console.print(accuracies(rows, title, record.get("probing")))
    else:
        console.print(
            escape(f"{title}; no probes (the data has no classes, or the run ended early)")
        )
    if "error" in record:
        console.print(escape(record["error"]), style="red")
    console.print(_costs(record))
    if details:
        _details(console, record)
        for path in sorted((folder / "probes").glob("*.json")):
            console.print(f"probed  {escape(path)}", soft_wrap=True, highlight=False)
    for note in (record.get("probing") or {}).get("notes", ()):
        say(f"note  {note}")
    console.print(f"run  {escape(str(folder))}", soft_wrap=True, highlight=False)


def probed(path: Path, found: Mapping[str, Any], *, reused: bool) -> None:
    """What ``maskbench probe`` found."""
    console = Console()
    if reused:
        say(f"this was asked before; remove {path} to probe again.")
    title = f"{found['encoder']['name']} on {found['data']['name']}"
    rows = [*found["rows"], *found["controls"]]
    if any(row["probe"] == "knn20" for row in rows):
        console.print(accuracies(rows, title, found["probing"]))
    more = others(found["rows"])
    if more:
        table(title, more)
    for note in found["probing"].get("notes", ()):
        say(f"note  {note}")
    if found["encoder"]["prior"]:
        line(f"prior  {found['encoder']['prior']}")
    line(f"found  {path}")


def _costs(record: Mapping[str, Any]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    ledger, expected = record["ledger"], record["budget"].get("seconds_expected")
    table.add_row("budget", escape(used(record)))
    missing = lacking(ledger) if ledger else []
    if missing:
        table.add_row("cost", escape(f"not whole: its ledger lacks {', '.join(missing)}"))
    elif ledger:
        seconds = ledger["seconds"]["training"]
        speed = f"{ledger['images_per_s']:,.0f} images/s"
        table.add_row("cost", _flops(ledger))
        forecast = f" (forecast {duration(expected)})" if expected else ""
        took = f"{duration(seconds)} of training{forecast}, {speed}"
        table.add_row("time", f"{took}, on {device(record)}")
    gaps = record["masks"].get("difficulty")
    if gaps:
        numbers = " ".join(f"{100 * gap['gap']:+.1f}" for gap in gaps[:: max(len(gaps) // 4, 1)])
        table.add_row("masks", f"{numbers} % harder (easier: -) than random, start to end")
    prior = record["strategy"].get("prior")
    if prior:
        table.add_row("prior", f"uses an external prior: {escape(prior)}")
    return table


def _flops(ledger: Mapping[str, Any]) -> str:
    """FLOPs in words; a bound where the strategy does not say what it costs."""
    total = f"{big(ledger['flops_total'])}FLOP"
    if not ledger["flops_known"]:
        return f"unknown: the strategy does not say what it costs (at least {total})"
    return f"{total}, {ledger['flops_relative_to_random']:.2f}x random's per image"


def device(record: Mapping[str, Any]) -> str:
    """The device a run used, by name."""
    found = record["provenance"]["device"]
    return str(found["gpu"] or f"{found['cpu']} ({record['provenance']['threads']} threads)")


def _details(console: Console, record: Mapping[str, Any]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in record["settings"].items():
        text = json.dumps(value) if isinstance(value, dict) else str(value)
        table.add_row(escape(key), escape(text))
    provenance = record["provenance"]
    versions = ", ".join(f"{name} {number}" for name, number in provenance["versions"].items())
    table.add_row("versions", escape(versions))
    table.add_row("commit", escape(str(provenance["commit"])))
    end = provenance.get("finished") or "(its end is not known)"
    table.add_row("when", escape(f"{provenance['started']} to {end}"))
    skipped = record["data"].get("skipped")
    if skipped and skipped["count"]:
        files = "; ".join(f"{bad['path']} ({bad['reason']})" for bad in skipped["files"])
        table.add_row("skipped", escape(f"{skipped['count']} files: {files}"))
    console.print(table)


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of one shape as a table; numbers on the right."""
    shown = Table(title=escape(title), title_justify="left")
    for name in rows[0]:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        key = name in ("run", "name", "strategy")
        shown.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=key)
    for row in rows:
        shown.add_row(*(_cell(name, row.get(name)) for name in rows[0]))
    Console().print(shown)


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float) and ("@" in name or name == "knn20"):
        return percent(value)
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, tuple):
        return "\n".join(_cell(name, part) for part in value)
    return "-" if value is None else escape(str(value))
