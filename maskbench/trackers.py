"""Trackers that a run may tell its numbers beside its own files: TensorBoard, Weights & Biases.

The files of a run are the truth; a tracker gets what was written to them. One that fails is said
once and left out from then on: it changes no number of a run, and ends none.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol

from maskbench.errors import UsageError, unknown

STEP = "step"
LONGEST = 120
"""Characters of a name that Weights & Biases takes as an id, with some to spare."""
FINISHING_S = 300.0
"""Seconds that Weights & Biases may take to send the rest."""

Say = Callable[[str], None]
Errors = tuple[type[BaseException], ...]
RAISED: Errors = (Exception, SystemExit)
"""A stranger's library may raise anything."""


class Tracker(Protocol):
    """Somebody else who is told a run's numbers."""

    def begin(self, record: Mapping[str, Any], folder: Path, step: int) -> None:
        """A run begins, or goes on after a step."""

    def row(self, numbers: Mapping[str, float]) -> None:
        """One line of ``metrics.jsonl``."""

    def end(self, record: Mapping[str, Any]) -> None:
        """It ended as its record says; also after a failure."""


class TensorBoard:
    """Event files in the run's folder, under the names of ``metrics.jsonl``."""

    FOLDER = "tensorboard"

    def begin(self, record: Mapping[str, Any], folder: Path, step: int) -> None:
        """Settings as a text; what was written after the step before is not shown any more."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / self.FOLDER), purge_step=step + 1)
        rows = [f"| {name} | {value} |" for name, value in config(record).items()]
        table = "\n".join(["| setting | value |", "| --- | --- |", *rows])
        self._writer.add_text("settings", table)
        self._writer.flush()

    def row(self, numbers: Mapping[str, float]) -> None:
        """Scalars, handed to the operating system as the line was: a kill loses none."""
        self._add(numbers, int(numbers[STEP]))

    def end(self, record: Mapping[str, Any]) -> None:
        """Accuracies and totals of a finished run."""
        if record["status"] == "finished":
            self._add(totals(record), record["ledger"]["steps"])
        self._writer.close()

    def _add(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            if name != STEP:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()


class WeightsAndBiases:
    """A run of Weights & Biases, wherever ``WANDB_MODE`` and its other variables say.

    Settings and numbers are sent, but no host, user, path, code, console or usage of the machine.
    """

    SETTINGS: ClassVar[dict[str, Any]] = {
        "reinit": "create_new",  # somebody's own run in this process stays as it is
        "console": "off",
        "host": "-",
        "silent": True,
        "disable_git": True,
        "disable_code": True,
        "disable_job_creation": True,
        "finish_timeout": FINISHING_S,
        "finish_timeout_raises": True,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
    }

    def begin(self, record: Mapping[str, Any], folder: Path, step: int) -> None:
        """The same run again where this one goes on."""
        import wandb

        known = wandb.Settings.model_fields
        settings = {name: value for name, value in self.SETTINGS.items() if name in known}
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "maskbench"),
            name=record["id"],
            id=identity(record),
            group=group(record),
            config=config(record),
            dir=str(folder),
            resume="allow",
            settings=wandb.Settings(**settings),
        )

    def row(self, numbers: Mapping[str, float]) -> None:
        """A row of its history, at the run's own step."""
        self._run.log(dict(numbers), step=int(numbers[STEP]))

    def end(self, record: Mapping[str, Any]) -> None:
        """Accuracies and totals of a finished run as its summary."""
        finished = record["status"] == "finished"
        if finished:
            self._run.summary.update(totals(record))
        self._run.finish(exit_code=0 if finished else 1)


KNOWN: dict[str, Callable[[], Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
"""By the name of the library, of the extra that installs it, and of what ``--track`` takes."""


class Trackers:
    """All that a run tells; one that raises is said once and not told any more.

    Args:
        trackers: By name.
        say: Told of one that raised.
    """

    def __init__(self, trackers: Mapping[str, Tracker], say: Say) -> None:
        self._waiting, self._told, self._say = dict(trackers), dict[str, Tracker](), say

    def __bool__(self) -> bool:
        return bool(self._waiting or self._told)

    def begin(self, record: Mapping[str, Any], folder: Path, step: int) -> None:
        """A run begins, or goes on after a step."""
        self._told, self._waiting = self._waiting, {}
        self._each(lambda tracker: tracker.begin(record, folder, step))

    def row(self, numbers: Mapping[str, float]) -> None:
        """One line of ``metrics.jsonl`` was written."""
        self._each(lambda tracker: tracker.row(numbers))

    def end(self, record: Mapping[str, Any]) -> None:
        """It ended, and is kept as it is; whoever will not wait may stop the telling.

        Nothing is told to whom nobody told a beginning.
        """
        self._each(lambda tracker: tracker.end(record), (*RAISED, KeyboardInterrupt))
        self._told = {}

    def _each(self, tell: Callable[[Tracker], None], caught: Errors = RAISED) -> None:
        for name, tracker in list(self._told.items()):
            try:
                tell(tracker)
            except caught as error:
                del self._told[name]
                what = (str(error).strip() or "it does not say why").splitlines()[0][:300]
                self._say(
                    f"{name} is not told any more ({type(error).__name__}: {what}). The run goes "
                    "on, and its numbers are in metrics.jsonl and record.json."
                )


def made(names: Iterable[str], say: Say) -> Trackers:
    """Those that were asked for; their libraries are imported when the run begins."""
    return Trackers({name: KNOWN[name]() for name in names}, say)


def named(text: str) -> tuple[str, ...]:
    """What ``--track`` names, each once.

    Raises:
        UsageError: As ``check``.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(","))) if text else ()
    check(names)
    return names


def check(names: Iterable[str]) -> None:
    """Refuse what cannot be told.

    Raises:
        UsageError: No such tracker, or its library is not installed.
    """
    for name in names:
        if name not in KNOWN:
            raise UsageError(f"--track: {unknown('tracker', name, KNOWN)}")
        spec = find_spec(name)
        if spec is None or not spec.origin:  # a folder of that name is no library
            raise UsageError(
                f"--track {name} needs the library {name}: pip install 'maskbench[{name}]'."
            )


def config(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was asked to be: its settings, all that a strategy has among them."""
    return {**record["settings"], "data_fingerprint": record["data"]["fingerprint"]}


def group(record: Mapping[str, Any]) -> str:
    """What it stands beside: the runs of its benchmark, else those of its strategy."""
    benchmark = record["benchmark"]
    return str(benchmark["name"] if benchmark else record["strategy"]["name"])


def identity(record: Mapping[str, Any]) -> str:
    """An id that a run keeps when it goes on, and shares with none of the same settings."""
    began = f"{record['id']} {record['provenance']['started']}"
    mark = hashlib.sha256(began.encode()).hexdigest()[:8]
    plain = re.sub(r"[^A-Za-z0-9_.+-]", "-", record["id"])
    return f"{plain[: LONGEST - 1 - len(mark)]}-{mark}"


def totals(record: Mapping[str, Any]) -> dict[str, float]:
    """Mean accuracies over draws of all probes, controls among them, and the ledger's totals."""
    found: dict[str, list[float]] = {}
    for row in (*record["probes"], *record["controls"]):
        shots = "" if row["shots"] is None else f"/n={row['shots']}"
        found.setdefault(f"probes/{row['feature']}/{row['probe']}{shots}", []).append(
            row["accuracy"]
        )
    means = {name: sum(values) / len(values) for name, values in found.items()}
    paid = {
        f"ledger/{name}": value
        for name, value in record["ledger"].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return {**means, **paid}
