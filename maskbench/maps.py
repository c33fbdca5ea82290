"""Saliency maps of a set of images, on the patch grid, from everything that is known of them.

``spectral residual``, ``edges`` and ``centre`` need only pixels; ``difficulty`` (loss per patch)
and ``attention`` (of CLS) a frozen reference autoencoder; ``objects`` and ``contours`` what the
data knows. A source that cannot be had is there all the same, with no image that has a map: the
gap is shown, not filled.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maskbench.analysis import sources
from maskbench.analysis.agreement import Source
from maskbench.reference import Reference

CHUNK = 128
OBJECT = 0.5
"""A patch counts as object if at least this share of its pixels does."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Known:
    """What the data knows of a set of images (centre crops).

    Args:
        objects: (images, side, side), True on the object; None if unknown.
        has_object: (images,): of which images that is known.
        contours: (images, side, side): share of annotators with a boundary there; None if unknown.
        has_contour: (images,): of which images that is known.
        notes: What is missing, in words.
        void: (images, side, side), True where nobody says whether there is an object.
        drawn: (images, side, side), uint32: bit k where annotator k drew a contour; None where
            there is one annotator.
        annotators: (images,): how many, with ``drawn``.
    """

    objects: Bools | None = None
    has_object: Bools | None = None
    contours: NDArray[np.float32] | None = None
    has_contour: Bools | None = None
    notes: tuple[str, ...] = ()
    void: Bools | None = None
    drawn: NDArray[np.uint32] | None = None
    annotators: NDArray[np.int64] | None = None


def maps(
    images: NDArray[np.uint8], rows: int, hidden: int, known: Known, reference: Reference | None
) -> list[Source]:
    """All sources for these images.

    Args:
        images: Centre crops, uint8, (images, side, side, 3).
        rows: Patch rows, and columns.
        hidden: Hidden patches per mask; the reference's difficulty is measured under as many.
        known: Of the same images.
        reference: Judges difficulty and attention; None leaves both unknown.
    """
    count, side = len(images), images.shape[1]
    every = np.ones(count, bool)

    def pooled(make: Callable[[NDArray[np.uint8]], NDArray[np.float64]]) -> NDArray[np.float64]:
        parts = [
            sources.tokens(make(images[first : first + CHUNK]), rows, rows)
            for first in range(0, count, CHUNK)
        ]
        return np.concatenate(parts)

    centre = sources.tokens(sources.centre_prior(side)[None], rows, rows)
    found = [
        Source("spectral residual", pooled(sources.spectral_residual), every),
        Source("edges", pooled(sources.edge_energy), every),
        Source("centre", np.broadcast_to(centre, (count, rows * rows)).copy(), every),
    ]
    if reference is None:
        found += [_unknown(name, count, rows) for name in ("difficulty", "attention")]
    else:
        found.append(Source("difficulty", reference.difficulty(images, hidden), every))
        found.append(Source("attention", reference.attention(images), every))
    return [*found, _objects(known, count, rows), _contours(known, count, rows)]


def _objects(known: Known, count: int, rows: int) -> Source:
    if known.objects is None or known.has_object is None:
        return _unknown("objects", count, rows)
    share = sources.tokens(known.objects, rows, rows)
    if known.void is not None:  # a patch of which nothing is said counts as background
        said = 1 - sources.tokens(known.void, rows, rows)
        share = np.divide(share, said, out=np.zeros_like(share), where=said > 0)
    return Source("objects", share, known.has_object, share >= OBJECT)


def _contours(known: Known, count: int, rows: int) -> Source:
    """A patch counts as contour if half of the annotators have a boundary pixel in it."""
    if known.contours is None or known.has_contour is None:
        return _unknown("contours", count, rows)
    share = sources.tokens(known.contours.astype(np.float64), rows, rows)
    marks = (known.contours > 0).astype(np.uint32) if known.drawn is None else known.drawn
    people = np.ones(count) if known.annotators is None else known.annotators
    cell = marks.shape[1] // rows
    cells = marks.reshape(count, rows, cell, rows, cell)
    who = np.bitwise_or.reduce(np.bitwise_or.reduce(cells, axis=4), axis=2).reshape(count, -1)
    bits = np.unpackbits(np.ascontiguousarray(who).view(np.uint8).reshape(count, -1, 4), axis=2)
    drew = bits.sum(axis=2) / np.maximum(people, 1)[:, None]
    return Source("contours", share, known.has_contour, drew >= OBJECT)


def _unknown(name: str, count: int, rows: int) -> Source:
    return Source(name, np.zeros((count, rows * rows)), np.zeros(count, bool))
