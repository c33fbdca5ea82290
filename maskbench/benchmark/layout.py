"""A benchmark laid out in a store: which run each item is, kept for whoever asks later.

``STORE/benchmarks/NAME/plan.json`` says what was asked last and which runs answer it. Every version
that was ever planned stays beside it under a name of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from maskbench import record, results, trust
from maskbench.benchmark.reading import Asked, differences, placed
from maskbench.errors import DataError, StoreError, UsageError, unknown
from maskbench.events import Progress
from maskbench.files import unwritten
from maskbench.results import Store
from maskbench.spec import Request
from maskbench.trust import plain

FOLDER, PLAN, LOGS, ERRORS = "benchmarks", "plan.json", "logs", "errors.json"
SCHEMA = 1
T = TypeVar("T")


class Laid(record.Part):
    """An item of a plan.

    Attributes:
        arm: Whose run.
        run: The run's id: the beginning of its folder's name.
        request: What it is asked to do.
    """

    arm: str
    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9.+_-]+$")]
    request: Request


class Plan(record.Part):
    """What was asked, and which runs answer it.

    Attributes:
        name: Of the benchmark.
        sha256: Of what was asked.
        asked: Everything that was asked, resolved.
        metric: By which arms are ranked.
        direction: Which values are better.
        items: By name, in their order.
    """

    name: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    asked: dict[str, Any]
    metric: str
    direction: str
    items: Annotated[dict[str, Laid], Field(max_length=10_000)]

    def origin(self, item: str) -> dict[str, str]:
        """What a run's record says about the benchmark that it was made for."""
        return {"name": self.name, "sha256": self.sha256, "run": item}


@dataclass(frozen=True)
class Place:
    """Where a benchmark keeps its own files in a store.

    Args:
        store: The store.
        name: The benchmark's.
    """

    store: Store
    name: str

    @property
    def folder(self) -> Path:
        """Made when the plan is kept."""
        return self.store.root / FOLDER / self.name

    @property
    def logs(self) -> Path:
        """What runs say, a file or folder each."""
        return self.folder / LOGS

    def plan(self) -> Plan | None:
        """What was planned last; None if nothing was.

        Raises:
            StoreError: The file is there and is no plan.
        """
        try:
            return read_plan(self.folder / PLAN)
        except FileNotFoundError:
            return None

    def keep(self, plan: Plan) -> list[str]:
        """Write a plan; what it asks otherwise than the last one, in phrases.

        Raises:
            StoreError: It cannot be written.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(unwritten(self.logs, error)) from error
        before, told = self.plan(), _told(plan)
        if before is None or _told(before) != told:
            results.write_json(self.version(plan), told)
            results.write_json(self.folder / PLAN, told)
        return differences(before.asked, plan.asked) if before else []

    def errors(self) -> dict[str, str]:
        """Run to what ended its last attempt, where that was an error; none if nobody wrote any."""
        try:
            told = trust.parse(trust.read_text(self.folder, ERRORS))
        except (FileNotFoundError, ValueError, StoreError):
            return {}
        found = told if isinstance(told, dict) else {}
        return {name: str(error) for name, error in found.items()}

    def note(self, name: str, error: str | None) -> None:
        """Remember what ended a run's last attempt; None: nothing did, or it is tried again."""
        before = self.errors()
        now = {key: value for key, value in before.items() if key != name}
        now |= {name: error} if error else {}
        if now != before:
            results.write_json(self.folder / ERRORS, now)

    def version(self, plan: Plan) -> Path:
        """Where this version of the plan stays, whatever is planned later."""
        return self.folder / f"plan-{plan.sha256[:12]}.json"


def read_plan(path: Path) -> Plan:
    """A plan that was kept.

    Raises:
        FileNotFoundError: There is none.
        StoreError: The file is no plan.
    """
    try:
        told = trust.parse(trust.read_text(path.parent, path.name))
        if isinstance(told, dict) and told.get("schema") != SCHEMA:
            raise ValueError(f"schema {plain(told.get('schema'))!s:.40} is not {SCHEMA}")
        return record.fitting(Plan, told, "the plan")
    except ValueError as error:
        raise StoreError(
            f"{path} is not a plan of this maskbench: {error}. Move it away; the runs stay, and "
            "'maskbench run' plans anew."
        ) from error


def _told(plan: Plan) -> dict[str, Any]:
    return {"schema": SCHEMA, **plan.model_dump(mode="json")}


def laid_out(asked: Asked, store: Store, progress: Progress) -> Plan:
    """The runs that answer a benchmark; opens (and packs) its data, and trains nothing.

    Raises:
        UsageError: A setting that cannot be; the message names the arm.
        DataError: The data cannot be used.
    """
    from maskbench.data import open_data
    from maskbench.plan import resolve

    opened: Any = cache(open_data)  # to list a million images takes a while
    items = {}
    for name, item in asked.items.items():
        try:
            run = resolve(item.request, store, progress, opened).settings.run_id()
        except (UsageError, DataError) as error:
            raise type(error)(placed(asked.path, item.arm, str(error))) from error
        items[name] = Laid(arm=item.arm, run=run, request=item.request)
    _refuse_twins(asked, items)
    return Plan(
        name=asked.name,
        sha256=asked.digest,
        asked=asked.resolved,
        metric=asked.metric,
        direction=asked.direction,
        items=items,
    )


def _refuse_twins(asked: Asked, items: Mapping[str, Laid]) -> None:
    """Refuse two arms that are the same run.

    Raises:
        UsageError: There are; both are named.
    """
    first: dict[str, str] = {}
    for name, laid in items.items():
        other = first.setdefault(laid.run, name)
        if other != name:
            raise UsageError(
                f"{asked.path}: {other} and {name} are one run: their settings are equal, so they "
                "cannot be compared. Change a setting of one, or leave it out."
            )


def only(items: Mapping[str, T], name: str) -> T:
    """One run of a benchmark.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in items:
        raise UsageError(unknown("run of the benchmark", name, items))
    return items[name]
