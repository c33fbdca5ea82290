"""A folder of images as a data set: found, judged, and packed on first use.

Two layouts are known. With classes: ``train/`` and ``test/`` (or ``val/``), each with the same
class folders; images may lie deeper inside them. Flat: image files directly in the folder, for
pretraining alone. Names that start with "." are ignored, links to folders are not followed.
"""

from collections.abc import Sequence
from pathlib import Path

from maskbench.data import packing
from maskbench.data.judging import some
from maskbench.data.listing import listing, scan, walk
from maskbench.data.packed import Plan, short_name
from maskbench.data.source import Images
from maskbench.errors import DataError
from maskbench.events import Progress, Silent
from maskbench.trust import plain

_LAYOUT = (
    "Expected are train/ and test/ (or val/), each with one folder per class, or image files "
    "directly in the folder for pretraining alone."
)


def open_folder(
    path: Path, side: int, cache: Path, max_bad: float = 0.01, progress: Progress | None = None
) -> Images:
    """Open a folder of images; its images are decoded at most once.

    Images are stored as squares of ``side * 8 // 7`` pixels if all are large enough, else of
    ``side``. Files that cannot be used are skipped and named in the notes.

    Args:
        path: The data folder.
        side: Side of the model's input in pixels.
        cache: Folder for packed data sets; created when needed.
        max_bad: Largest share of all files that may be unusable, 0 to 1.
        progress: Told about packing.

    Returns:
        The data set; images are read-only and memory-mapped.

    Raises:
        DataError: The folder cannot be used: what was found, where, and what to do.
        StoreError: The packed images cannot be written.
        UsageError: ``max_bad`` is not a share.
    """
    return packing.opened(find(path), side, cache, max_bad, progress or Silent())


def find(path: Path) -> Plan:
    """List a data folder and recognise its layout; no file is opened.

    Raises:
        DataError: The folder is missing, empty, or organised in no known way.
    """
    try:
        root = path.expanduser().resolve()
    except (OSError, RuntimeError) as error:  # a loop of links, or a ~user who does not exist
        raise DataError(f"The data folder {path} cannot be found: {error}.") from error
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"The data folder {path} {what}. Check the path after --data folder:.")
    name = short_name(root.name)
    try:
        folders, files = listing(root)
        if {"train", "test", "val"} & set(folders):
            return _find_splits(root, name, folders)
        real = [folder for folder in folders if not (root / folder).is_symlink()]
        full = [folder for folder in real if next(walk(str(root / folder), ""), None)]
        if full:
            raise DataError(
                f"{root} has no train/ but {some(f'{folder}/' for folder in full)}"
                f"{' beside loose files' if files else ''}. {_LAYOUT} If these are class folders, "
                f"this may be the train folder itself: give its parent, with test/ beside it; or "
                f"put all images into one flat folder."
            )
        if not files:
            raise DataError(f"{root} holds no files. {_LAYOUT} Check the path.")
        good, bad = scan(root, "", ())
    except OSError as error:
        raise DataError(
            f"{error.filename or root} cannot be read: {error.strerror}. Mend the permissions or "
            f"the disk, or leave it out of the data folder."
        ) from error
    return Plan(root, name, "flat folder without classes", (), {"train": good}, bad)


def _find_splits(root: Path, name: str, folders: Sequence[str]) -> Plan:
    """A folder with train/ and test/ or val/."""
    test = next((folder for folder in ("test", "val") if folder in folders), None)
    if "train" not in folders or test is None:
        missing = "train/" if "train" not in folders else "test/ or val/"
        raise DataError(
            f"{root} has {some(f'{folder}/' for folder in folders)} but no {missing}. {_LAYOUT} "
            f"Add the missing split, or give a flat folder."
        )
    classes = _classes(root, "train")
    others = _classes(root, test)
    if classes != others:
        lone = [f"train/{c}" for c in classes if c not in others]
        lone += [f"{test}/{c}" for c in others if c not in classes]
        raise DataError(
            f"train/ and {test}/ in {root} have different classes; without a counterpart: "
            f"{some(lone)}. Give both splits the same class folders."
        )
    if len(classes) == 1:
        raise DataError(
            f"{root} has one class only, {plain(classes[0])!r}. Probes need at least two class "
            f"folders in train/ and {test}/; for pretraining alone give a flat folder of images."
        )
    train, bad = scan(root, "train/", classes)
    rest, more = scan(root, f"{test}/", classes)
    ignored = "; val/ ignored" if test == "test" and "val" in folders else ""
    layout = f"class folders in train/ and {test}/{ignored}"
    shown = tuple(map(plain, classes))
    return Plan(root, name, layout, shown, {"train": train, "test": rest}, [*bad, *more])


def _classes(root: Path, split: str) -> tuple[str, ...]:
    """Class folders of a split, sorted."""
    folder = root / split
    if folder.is_symlink():
        raise DataError(
            f"{folder} is a link; links to folders are not followed. Put the real folder there, or "
            f"give the folder that holds the real {split}/."
        )
    classes, files = listing(folder)
    if not classes and files:
        raise DataError(
            f"{folder} holds {len(files)} loose files rather than class folders. Sort them into "
            f"one folder per class; or give the folder of training images by itself, such as "
            f"--data folder:{root / 'train'}, as a flat folder for pretraining alone."
        )
    if not classes:
        raise DataError(f"{folder} is empty. {_LAYOUT} Fill it, or check the path.")
    return tuple(classes)
