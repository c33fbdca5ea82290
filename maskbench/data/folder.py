"""A folder of images as a data set: found, judged, and packed on first use.

Two layouts are known. With classes: ``train/`` and ``test/`` (or ``val/``), each with the same
class folders; images may lie deeper inside them. Flat: image files directly in the folder, for
pretraining alone. Names that start with "." are ignored, links to folders are not followed.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskbench.data import decode, packed
from maskbench.data.listing import listing, scan, walk
from maskbench.data.packed import Bad, Plan
from maskbench.data.source import Images
from maskbench.errors import DataError, UsageError
from maskbench.events import Progress, Silent
from maskbench.trust import plain

RULES = 2  # raise it when the same files would be packed differently

_SMALL = "smaller than"
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
    progress = progress or Silent()
    if not 0 <= max_bad <= 1:
        raise UsageError(f"--max-bad is a share from 0 to 1, such as 0.01, not {max_bad}.")
    plan = find(path)
    target = cache / f"{plan.name}-{_key(plan, side)}"
    pack = packed.read(target)
    if pack is None:
        if target.exists():
            progress.message(f"The packed images in {target} are damaged; packing them anew.")
        plan = judge(plan, side, progress)
        _accept(plan, plan.labels, plan.skipped, max_bad, side)
        pack = packed.write(target, plan, progress)
    _accept(plan, pack.labels, pack.skipped, max_bad, side)
    return pack.images


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
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", root.name).strip("-.")[:80] or "images"
    try:
        folders, files = listing(root)
        if {"train", "test", "val"} & set(folders):
            return _find_splits(root, name, folders)
        real = [folder for folder in folders if not (root / folder).is_symlink()]
        full = [folder for folder in real if next(walk(str(root / folder), ""), None)]
        if full:
            raise DataError(
                f"{root} has no train/ but {_some(f'{folder}/' for folder in full)}"
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


def judge(plan: Plan, side: int, progress: Progress) -> Plan:
    """Read the headers, drop the files that cannot be used, and choose the side to store.

    Args:
        plan: As found.
        side: Side of the model's input in pixels.
        progress: Told how far it is.
    """
    paths = [file.path for files in plan.splits.values() for file in files]
    sizes: list[decode.Size | str] = []
    full = [f"{plan.root}/{path}" for path in paths]
    decode.in_threads(decode.size, full, "measuring images", progress, sizes.extend)
    bad = {}
    for path, size in zip(paths, sizes, strict=True):
        if isinstance(size, str):
            bad[path] = size
        elif min(size) < side:
            bad[path] = f"{_SMALL} {side} px: {size[0]}x{size[1]}"
    smallest = min((min(s) for s in sizes if not isinstance(s, str) and min(s) >= side), default=0)
    roomy = side * 8 // 7
    return replace(
        plan,
        splits={
            name: [file for file in files if file.path not in bad]
            for name, files in plan.splits.items()
        },
        skipped=sorted([*plan.skipped, *(Bad(plain(path), bad[path]) for path in bad)]),
        stored=roomy if smallest >= roomy else side,
    )


def _find_splits(root: Path, name: str, folders: Sequence[str]) -> Plan:
    """A folder with train/ and test/ or val/."""
    test = next((folder for folder in ("test", "val") if folder in folders), None)
    if "train" not in folders or test is None:
        missing = "train/" if "train" not in folders else "test/ or val/"
        raise DataError(
            f"{root} has {_some(f'{folder}/' for folder in folders)} but no {missing}. {_LAYOUT} "
            f"Add the missing split, or give a flat folder."
        )
    classes = _classes(root, "train")
    others = _classes(root, test)
    if classes != others:
        lone = [f"train/{c}" for c in classes if c not in others]
        lone += [f"{test}/{c}" for c in others if c not in classes]
        raise DataError(
            f"train/ and {test}/ in {root} have different classes; without a counterpart: "
            f"{_some(lone)}. Give both splits the same class folders."
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


def _key(plan: Plan, side: int) -> str:
    """Twelve hex digits that change with the files, their times, the layout and the side.

    The place of the folder counts too: archives often give all files one time, and two folders of
    the same name may then be told apart by nothing else.
    """
    files = [[f.path, f.size, f.changed] for split in plan.splits.values() for f in split]
    facts = [RULES, packed.SCHEMA, side, str(plan.root), plan.layout, plan.classes, files]
    return hashlib.sha256(json.dumps([facts, plan.skipped]).encode()).hexdigest()[:12]


def _accept(
    plan: Plan,
    labels: Mapping[str, NDArray[np.int64]],
    skipped: Sequence[Bad],
    max_bad: float,
    side: int,
) -> None:
    """Refuse data with too many bad files or with a class that has no usable image.

    Args:
        plan: What was found.
        labels: Labels of the usable images per split.
        skipped: All files that cannot be used.
        max_bad: Largest share of them.
        side: Side of the model's input in pixels.

    Raises:
        DataError: What was found, where, and what to do.
    """
    usable = sum(map(len, labels.values()))
    total = usable + len(skipped)
    small = [bad for bad in skipped if bad.reason.startswith(_SMALL)]
    if small and (not usable or len(small) / total > max_bad):
        raise DataError(
            f"{len(small)} of {total} files in {plan.root} are images smaller than the model's "
            f"input of {side}x{side} px: {_examples(small)}. Choose another --model with a smaller "
            f"input, or resize or remove these images."
        )
    if skipped and not usable:
        raise DataError(
            f"None of the {total} files in {plan.root} can be used; the first is "
            f"{_examples(skipped[:1])}. Readable are {', '.join(decode.FORMATS)}. Check the path, "
            f"or replace the files."
        )
    if total and len(skipped) / total > max_bad:
        raise DataError(
            f"{len(skipped)} of {total} files in {plan.root} cannot be used, "
            f"{100 * len(skipped) / total:.3g} % where {100 * max_bad:.3g} % are allowed: "
            f"{_examples(skipped)}. Repair or delete them, or raise --max-bad."
        )
    for split, found in labels.items():
        count = np.bincount(found + 1, minlength=len(plan.classes) + 1)[1:]
        empty = [name for name, n in zip(plan.classes, count, strict=True) if not n]
        if empty:
            raise DataError(
                f"The {split} split in {plan.root} has no usable image of {_some(empty)}. Add "
                f"images to these class folders, or remove the class from every split."
            )


def _examples(bad: Sequence[Bad]) -> str:
    """The first three, each with its reason."""
    shown = ", ".join(f"{path} ({reason})" for path, reason in bad[:3])
    return shown + (", ..." if len(bad) > 3 else "")


def _some(names: Iterable[str]) -> str:
    """The first five names."""
    shown = [plain(name) for name in names]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
