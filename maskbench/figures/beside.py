"""Images under masks on the left, panels over the budget beside them."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskbench import figures
from maskbench.figures import canvas
from maskbench.figures.analysis import picture
from maskbench.figures.panels import Key, Panel, height_of, panels

HEAD, FOOT, SIDE, GAP = 0.3, 0.12, 0.1, 0.3
TALL = 3.4


def beside(
    images: NDArray[np.uint8],
    masks: Sequence[tuple[str, NDArray[np.bool_]]],
    drawn: Sequence[Panel],
    key: Key,
) -> canvas.Figure:
    """Columns of images: in full, then under each set of masks; panels to the right.

    Args:
        images: Uint8, (images, side, side, 3).
        masks: Titles, and masks of these images, (images, rows, columns).
        drawn: At least one panel.
        key: Labels and looks of their curves.
    """
    pixels = np.asarray(Image.open(io.BytesIO(picture(images, np.stack([m for _, m in masks])))))
    titles = ["image", *(title for title, _ in masks)]
    tall = min(height_of(drawn, key) - HEAD - FOOT, TALL)
    wide = tall * pixels.shape[1] / pixels.shape[0]
    figure = panels(drawn, key, aside=wide + SIDE + GAP)
    width, height = figure.get_size_inches()
    with figures.style():
        axes = figure.add_axes(
            (SIDE / width, (height - HEAD - tall) / height, wide / width, tall / height)
        )
        axes.imshow(pixels, interpolation="nearest")
        axes.set_axis_off()
        step = pixels.shape[1] / len(titles)
        for rank, title in enumerate(titles):
            axes.text((rank + 0.5) * step, -6, title, fontsize=8, ha="center", va="bottom",
                      parse_math=False)  # fmt: skip
    return figure
