"""Which files of a data set can be used, at what size, and whether they are enough."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from maskbench.data import decode
from maskbench.data.packed import Bad, File, Plan
from maskbench.errors import DataError
from maskbench.events import Progress
from maskbench.trust import plain

_SMALL = "smaller than"


def judge(plan: Plan, side: int, progress: Progress) -> tuple[int, dict[str, str]]:
    """Read the headers, and choose the side to store.

    Args:
        plan: As found.
        side: Side of the model's input in pixels.
        progress: Told how far it is.

    Returns:
        Side of the packed images in pixels: ``side * 8 // 7`` if all are large enough, else
        ``side``; and why files cannot be used, by path.
    """

    def size(file: File) -> decode.Size | str:
        try:
            return decode.size(plan.source(file))
        except Exception as error:
            return decode.reason(error)

    files = [file for split in plan.splits.values() for file in split]
    sizes: list[decode.Size | str] = []
    decode.in_threads(size, files, "measuring images", progress, sizes.extend)
    bad = {}
    for file, found in zip(files, sizes, strict=True):
        if isinstance(found, str):
            bad[file.path] = found
        elif min(found) < side:
            bad[file.path] = f"{_SMALL} {side} px: {found[0]}x{found[1]}"
    smallest = min((min(s) for s in sizes if not isinstance(s, str) and min(s) >= side), default=0)
    roomy = side * 8 // 7
    return roomy if smallest >= roomy else side, bad


def judged(plan: Plan, stored: int, bad: Mapping[str, str]) -> Plan:
    """A plan without the files that cannot be used.

    Args:
        plan: As found.
        stored: Side of the packed images in pixels.
        bad: Why files cannot be used, by path.
    """
    return replace(
        plan,
        splits={
            name: [file for file in files if file.path not in bad]
            for name, files in plan.splits.items()
        },
        skipped=sorted([*plan.skipped, *(Bad(plain(path), bad[path]) for path in bad)]),
        stored=stored,
    )


def accept(
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
                f"The {split} split in {plan.root} has no usable image of {some(empty)}. Add "
                f"images to these class folders, or remove the class from every split."
            )


def _examples(bad: Sequence[Bad]) -> str:
    """The first three, each with its reason."""
    shown = ", ".join(f"{path} ({reason})" for path, reason in bad[:3])
    return shown + (", ..." if len(bad) > 3 else "")


def some(names: Iterable[str]) -> str:
    """The first five names."""
    shown = [plain(name) for name in names]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
