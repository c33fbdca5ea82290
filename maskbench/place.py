"""Which folder a run writes in: the one it was begun in, or a new one; never one that is in use."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from maskbench import lock, results, team
from maskbench.checkpoint import Checkpoints
from maskbench.errors import StoreError, UsageError
from maskbench.results import Store
from maskbench.spec import RunSettings

MEETING_S = 60.0
"""Seconds to wait for other runs that are choosing their folders in the same store."""


def found(
    settings: RunSettings, store: Store, locks: ExitStack, *, typed: bool = True
) -> tuple[Path | None, bool]:
    """The folder that these settings have, locked if they are not finished.

    Args:
        settings: Of the run.
        store: Where runs lie.
        locks: Holds the folder from now on.
        typed: Whether somebody typed the settings, and may have mistyped them.

    Returns:
        The folder, None if there is none; and whether it is finished. The same in every process.

    Raises:
        BusyError: A living process works in it.
        UsageError: A run that differs in a few settings only was begun and is not finished.
    """
    told = json.dumps(_look(settings, store, locks, typed=typed)) if team.first() else ""
    name, finished = json.loads(team.share(told.encode()))
    return (Path(name) if name else None), finished


def _look(
    settings: RunSettings, store: Store, locks: ExitStack, *, typed: bool
) -> tuple[str, bool]:
    run_id = settings.run_id()
    done = store.finished(run_id)
    if done:
        return str(done), True
    begun = store.unfinished(run_id)
    if begun is None:
        if typed and settings.scored_on == "test":
            refuse_rival(settings, store)
        return "", False
    locks.enter_context(lock.hold(begun))
    return str(begun), results.status(begun) == "finished"


def created(
    settings: RunSettings, store: Store, locks: ExitStack, *, fresh: bool, typed: bool = True
) -> tuple[Path, bool]:
    """A folder for a new run, locked; another's, if one was as fast and is gone or done.

    Args:
        settings: Of the run.
        store: Where runs lie.
        locks: Holds the folder from now on.
        fresh: Whether a folder with the same settings is left alone.
        typed: As for ``found``.

    Returns:
        The folder, and whether the run in it is finished. The same in every process.

    Raises:
        BusyError: Another process was faster.
        StoreError: The store cannot be written.
    """
    told = ""
    if team.first():
        told = json.dumps(_create(settings, store, locks, fresh=fresh, typed=typed))
    name, finished = json.loads(team.share(told.encode()))
    return Path(name), finished


def _create(
    settings: RunSettings, store: Store, locks: ExitStack, *, fresh: bool, typed: bool
) -> tuple[str, bool]:
    store.prepare()
    with lock.hold(store.root, MEETING_S):
        name, finished = ("", False) if fresh else _look(settings, store, locks, typed=typed)
        if not name:
            folder = store.create(settings.run_id())
            locks.enter_context(lock.hold(folder))
            results.write_json(folder / results.SETTINGS, settings.model_dump(mode="json"))
            name = str(folder)
    return name, finished


def refuse_rival(settings: RunSettings, store: Store) -> None:
    """Refuse to begin beside an unfinished run that differs in something one may have mistyped.

    An edited strategy is another idea, and what is running or diverged is nobody's mistake.

    Raises:
        UsageError: There is one; the message names what differs.
    """
    words = settings.run_id().rpartition("-")[0]
    for folder in store.folders():
        if not folder.name.startswith(f"{words}-"):
            continue
        try:
            record = results.read_record(folder)
        except StoreError:
            continue
        before = record["settings"]
        left = record["status"] in ("interrupted", "running") and not lock.held(folder)
        same_idea = before.get("strategy_digest") == settings.strategy_digest
        if left and same_idea and Checkpoints(folder).any():
            refuse_changed(folder, before, settings.model_dump(mode="json"))


def refuse_changed(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with other settings.

    Raises:
        UsageError: They differ.
    """
    changed = [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise UsageError(
            f"{folder.name} was begun with other settings and is not finished: "
            f"{'; '.join(changed)}. Give the same settings to continue it; --fresh begins anew "
            "beside it, another --out elsewhere."
        )
