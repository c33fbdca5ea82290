"""Which runs are meant: run folders, names, stores, and folders of stores."""

from collections.abc import Iterator, Sequence
from pathlib import Path

DEPTH = 4
"""How far below a folder stores are looked for: ``A/alice/project/runs`` is three."""
ASIDE = ("figures", "data", "node_modules")


def folders_of(path: Path) -> list[Path]:
    """The runs in a store; none if it is not one."""
    from maskbench.results import Store

    return Store(path).folders()


def whole_store(path: Path) -> list[Path]:
    """A store's runs, and folders in it that should hold a record and have none."""
    from maskbench.results import Store

    return [*Store(path).folders(), *Store(path).unrecorded()]


def stores_of(path: Path) -> list[Path]:
    """The stores that a folder is or holds: one that holds runs is not looked into further."""
    return list(_stores(path, DEPTH))


def _stores(path: Path, depth: int) -> Iterator[Path]:
    from maskbench.results import METRICS, RECORD, SETTINGS

    if whole_store(path):
        yield path
        return
    if not path.is_dir() or any((path / name).exists() for name in (RECORD, SETTINGS, METRICS)):
        return  # a run
    try:
        inner = sorted(path.iterdir()) if depth else []
    except OSError:
        return
    for folder in inner:
        if not folder.is_symlink() and not folder.name.startswith(".") and folder.name not in ASIDE:
            yield from _stores(folder, depth - 1)


def chosen(names: Sequence[str], store: Path) -> list[Path]:
    """The run folders that are meant, each once.

    Raises:
        UsageError: There is none, or a name fits no run or several.
    """
    from maskbench.errors import UsageError

    found = [folder for name in names for folder in _named(name, store)]
    if not names:
        found = [folder for one in stores_of(store) for folder in whole_store(one)]
    if not found:
        raise UsageError(
            f"no runs in {store}/: 'maskbench run --strategy random' makes one; "
            "--runs names another store."
        )
    return list({folder.resolve(): folder for folder in found}.values())


def _named(name: str, store: Path) -> list[Path]:
    """The runs of a store or of all stores in a folder; or the one that has this name.

    Raises:
        UsageError: There is none.
    """
    from maskbench.errors import UsageError
    from maskbench.results import Store

    path = Path(name)
    found = [folder for one in stores_of(path) for folder in whole_store(one)]
    if found:
        return found
    try:
        return [Store(store).find(name)]
    except UsageError as error:
        if not path.is_dir():
            raise
        raise UsageError(
            f"no runs in {name.rstrip('/')}/: it is no store and holds none (a store holds a "
            "folder per run, with its record.json)."
        ) from error
