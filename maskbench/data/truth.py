"""What people say is in an image, on the pixels of the packed images: objects and contours.

Beside the images lies a folder of the same layout: for ``train/cat/0001.jpg`` it holds one of

* ``train/cat/0001.png``: labels of a segmentation, one number per pixel (grey of 1, 8 or 16 bits,
  or a palette, as VOC writes them). 0 is background, everything else object. In 8 bits 255 is
  void, neither of both, as in VOC; but in a grey file of nothing but 0 and 255 it is the object.
  Contours are the object's outermost pixels, and those on both sides where labels touch
  (scikit-image's ``inner`` mode); void belongs to the nearest label for this, so that a contour
  runs along the middle of VOC's void rim.
* ``train/cat/0001.mat``: contours of several people, as BSDS500 has them; objects are unknown.

Its size must be that of the original image. Labels take the way of the image
(``maskbench.data.decode``): middle square, then the label in the middle of every stored pixel.
Contours are thin: a stored pixel has one if any original pixel whose middle it holds has one, so
none is lost, and none is counted twice.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.segmentation import find_boundaries

from maskbench.data import annotated, decode
from maskbench.data.decode import Size
from maskbench.data.packed import Bad
from maskbench.errors import DataError, StoreError
from maskbench.events import Progress, Silent
from maskbench.trust import MAX_BYTES, inside, plain

Bools = NDArray[np.bool_]

VOID = 255
PEOPLE = 32
"""Annotators of an image, at most; BSDS500 has up to nine."""
_NONE = "no ground truth"
_ACCEPTED = (
    "Accepted are, for every image, a file of the same path that ends in .png (labels of a "
    "segmentation, 0 is background) or .mat (groundTruth of BSDS500)."
)


@dataclass(frozen=True)
class Truth:
    """Ground truth of some images, in their order; a map says something only where it is known.

    Args:
        ids: Of the images.
        objects: Bool, (images, side, side), True on an object; None if known for no image.
        void: Bool, (images, side, side), True where nobody says whether there is an object; None
            with ``objects``. Neither object nor background: leave these pixels out of shares.
        contours: Float32, (images, side, side), share of the annotators who drew one there; None
            if known for no image.
        known_objects: Bool, (images,): both object and background are there.
        known_contours: Bool, (images,): a contour is there.
        annotators: Int64, (images,): people (or label files) behind the contours; 0 if unknown.
        missing: Images without a file, with one that cannot be used, or with nothing in it to tell
            apart, by their printable paths, and why; one may still have the other truth.
        drawn: (images, side, side), uint32: bit k is set where annotator k (of the first
            32) drew a contour; None with ``contours``.
    """

    ids: Sequence[str]
    objects: Bools | None
    void: Bools | None
    contours: NDArray[np.float32] | None
    known_objects: Bools
    known_contours: Bools
    annotators: NDArray[np.int64]
    missing: Sequence[Bad]
    drawn: NDArray[np.uint32] | None


class _Marks(NamedTuple):
    """One image's truth, on the original pixels or the stored ones; all (height, width)."""

    drawn: Sequence[Bools]
    """Contours by annotator."""
    objects: Bools | None = None
    void: Bools | None = None


def read(
    folder: Path, data: Path, ids: Sequence[str], stored: int, progress: Progress | None = None
) -> Truth:
    """Read the ground truth of packed images.

    Args:
        folder: Of the ground truth; paths in it are those of the images, but for the suffix.
        data: The data folder, whose images' own sizes the ground truth must have.
        ids: The images' paths in it (``Split.ids``).
        stored: Side of the packed images in pixels (``Split.side``).
        progress: Told how far it is.

    Returns:
        The truth at the stored side, 10 bytes per pixel at most; files that cannot be used are
        named in it.

    Raises:
        DataError: There is no file for any image.
    """
    folder, data = folder.expanduser(), data.expanduser()
    shape = (len(ids), stored, stored)
    objects, void = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    contours, annotators = np.zeros(shape, np.float32), np.zeros(len(ids), np.int64)
    drawn = np.zeros(shape, np.uint32)
    segmented = np.zeros(len(ids), np.bool_)
    reasons: list[str] = []

    def take(results: Sequence[_Marks | str]) -> None:
        for i, marks in enumerate(results, start=len(reasons)):
            reasons.append(marks if isinstance(marks, str) else "")
            if isinstance(marks, str):
                continue
            people = marks.drawn[:PEOPLE]
            contours[i], annotators[i] = np.mean(people, axis=0), len(people)
            for bit, one in enumerate(people):
                drawn[i] |= one.astype(np.uint32) << np.uint32(bit)
            if marks.objects is not None and marks.void is not None:
                objects[i], void[i], segmented[i] = marks.objects, marks.void, True

    work = partial(_one, folder, data, stored)
    decode.in_threads(work, ids, "reading ground truth", progress or Silent(), take)
    if reasons and all(why == _NONE for why in reasons):
        raise DataError(_nowhere(folder, ids))
    missing = [Bad(plain(name), why) for name, why in zip(ids, reasons, strict=True) if why]
    found = Truth(
        ids, objects, void, contours, segmented, annotators > 0, annotators, missing, drawn
    )
    return _judged(found, "")


def centred(truth: Truth, side: int) -> Truth:
    """The central pixels, those the model sees of a stored image (``maskbench.data.augment``).

    Args:
        truth: At the stored side.
        side: Of the model's input in pixels; at most the stored one.

    Raises:
        ValueError: It is larger.
    """
    stored = next((len(a[0]) for a in (truth.objects, truth.contours) if a is not None), side)
    if side > stored:
        raise ValueError(f"a crop of {side} px out of {stored} px")
    at = slice((stored - side) // 2, (stored - side) // 2 + side)
    return _judged(
        replace(
            truth,
            objects=None if truth.objects is None else truth.objects[:, at, at],
            void=None if truth.void is None else truth.void[:, at, at],
            contours=None if truth.contours is None else truth.contours[:, at, at],
            drawn=None if truth.drawn is None else truth.drawn[:, at, at],
        ),
        " in the crop",
    )


def _judged(truth: Truth, where: str) -> Truth:
    """Known is only what can be told from something else: no empty, no full image."""
    missing = list(truth.missing)
    objects, void, contours = truth.objects, truth.void, truth.contours
    known, drawn = truth.known_objects, truth.known_contours

    def drop(doubtful: Bools, reason: str) -> None:
        missing.extend(
            Bad(plain(truth.ids[int(i)]), reason + where) for i in np.flatnonzero(doubtful)
        )

    if objects is not None and void is not None:
        empty = known & ~objects.any((1, 2))
        full = known & ~empty & (objects | void).all((1, 2))
        drop(empty, "no object pixel")
        drop(full, "nothing but object")
        known = known & ~empty & ~full
    if contours is not None:
        none = drawn & ~contours.any((1, 2))
        drop(none & ~(truth.known_objects & ~known), "no contour")
        drawn = drawn & ~none
    return replace(
        truth,
        objects=objects if known.any() else None,
        void=void if known.any() else None,
        contours=contours if drawn.any() else None,
        drawn=truth.drawn if drawn.any() else None,
        known_objects=known,
        known_contours=drawn,
        annotators=np.where(drawn, truth.annotators, 0),
        missing=sorted(missing),
    )


def _one(folder: Path, data: Path, stored: int, name: str) -> _Marks | str:
    """One image's truth at the stored side, or why there is none."""
    for suffix, work in _READERS.items():
        try:
            path = _file(folder, str(PurePosixPath(name).with_suffix(suffix)), MAX_BYTES)
            if path is None:
                continue
            image = _file(data, name)
            size = "not in the data folder" if image is None else decode.size(str(image))
            if image is None or isinstance(size, str):
                return f"its image: {size}"
            if path.samefile(image):
                return f"{suffix}: it is the image itself"
            with decode.ONE_LARGE if size[0] * size[1] > decode.LARGE else nullcontext():
                return _stored(work(path, size), size, stored)
        except Exception as error:  # hostile files fail in every way
            return f"{suffix}: {decode.reason(error)}"
    return _NONE


def _file(folder: Path, name: str, most: int | None = None) -> Path | None:
    """A file that stays in its folder; None if there is none; ValueError if it is refused."""
    try:
        return inside(folder, name, most)
    except FileNotFoundError:
        return None
    except StoreError as error:  # without the machine's path
        why = str(error).removeprefix(f"{folder / name} ")
        raise ValueError(why.rstrip(".")) from None


def _segmentation(path: Path, size: Size) -> _Marks:
    """Labels of a PNG."""
    with Image.open(path, formats=("PNG",)) as image:
        _same(image.size, size)
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            raise ValueError(f"{image.mode} pixels; labels are grey or a palette")
        eight = image.tile[0][3] in ("L", "P")
        grey = image.mode == "L"
        labels = np.asarray(image)
    void = (labels == VOID) & eight
    if grey and not ((labels > 0) & ~void).any():
        void = np.zeros_like(void)
    filled = labels
    if void.any() and not void.all():
        near: Any = ndimage.distance_transform_edt(
            void, return_distances=False, return_indices=True
        )
        filled = labels[tuple(near)]
    outline = find_boundaries(filled, mode="inner")
    return _Marks([outline], (labels > 0) & ~void, void)


def _annotations(path: Path, size: Size) -> _Marks:
    """Contours of a MATLAB file."""
    drawn = annotated.boundaries(path.read_bytes())
    for one in drawn:
        _same((one.shape[1], one.shape[0]), size)
    return _Marks(drawn)


def _same(found: Size, size: Size) -> None:
    if found != size:
        raise ValueError(f"{found[0]}x{found[1]} px, its image has {size[0]}x{size[1]}")


def _stored(marks: _Marks, size: Size, stored: int) -> _Marks:
    """The middle square on the stored pixels, one of which covers ``short / stored`` original ones.

    Exact, in integers: the label is that of the original pixel below the stored pixel's middle;
    contours belong to the stored pixel in which their own middle lies (and where that is smaller
    than an original one, are treated as labels).
    """
    left, top, short = decode.middle(size)
    cut, pixel = np.s_[top : top + short, left : left + short], np.arange(stored)
    below = (2 * pixel + 1) * short // (2 * stored)
    first = below if short < stored else -((stored - 2 * pixel * short) // (2 * stored))

    def label(marked: Bools | None) -> Bools | None:
        return None if marked is None else marked[cut][np.ix_(below, below)]

    rows = [np.logical_or.reduceat(drawn[cut], first, axis=0) for drawn in marks.drawn]
    drawn = [np.logical_or.reduceat(some, first, axis=1) for some in rows]
    return _Marks(drawn, label(marks.objects), label(marks.void))


def _nowhere(folder: Path, ids: Sequence[str]) -> str:
    """Where there is nothing, and what should be there."""
    if not folder.is_dir():
        return f"The folder of ground truth {folder} does not exist. {_ACCEPTED}"
    looked = ", ".join(plain(PurePosixPath(name).with_suffix(".png")) for name in ids[:3])
    return (
        f"{folder} has no ground truth for any of {len(ids)} images: it was looked for as {looked} "
        f"and so on, and with .mat instead of .png. {_ACCEPTED}"
    )


_READERS: dict[str, Callable[[Path, Size], _Marks]] = {".png": _segmentation, ".mat": _annotations}
