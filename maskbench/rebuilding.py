"""What a model makes of images under masks, as pictures.

The model predicts patches without their mean and deviation. To be seen they get those of the *true*
patch, as in the visualisation of masked autoencoders (He et al., arXiv 2111.06377; its published
demo undoes the normalisation likewise): brightness and contrast of a painted patch are not the
model's.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskbench.data import augment
from maskbench.mask import Mask, take
from maskbench.model import MaskedAutoencoder, Outcome, level
from maskbench.shown import SHOWN, shown_side, shrunk


def rebuilt(model: MaskedAutoencoder, images: Tensor, outcome: Outcome) -> NDArray[np.uint8]:
    """What a forward pass paints into the hidden patches of the first images of its batch.

    Args:
        model: Whose pass it was.
        images: Its images, normalised floats, (images, 3, side, side).
        outcome: What it gave.

    Returns:
        (shown, side, side, 3), at ``shown_side``: visible patches true, hidden ones painted;
        pixels are whole numbers before they are averaged, like those of the true image.
    """
    shape, mask = model.shape, Mask(outcome.mask.hidden[:SHOWN], outcome.mask.grid)
    painted = paint(model, images[:SHOWN], mask, outcome.prediction[:SHOWN])
    pixels = augment.denormalise(painted).round().permute(0, 2, 3, 1).cpu().numpy()
    return shrunk(pixels, shown_side(shape.image, shape.side))


def paint(model: MaskedAutoencoder, images: Tensor, mask: Mask, prediction: Tensor) -> Tensor:
    """Images with predictions, at the true patches' mean and deviation, in their hidden patches.

    Args:
        model: Whose predictions they are.
        images: Normalised floats, (images, 3, side, side).
        mask: What was hidden.
        prediction: Of these images under this mask, (images, hidden, patch values).

    Returns:
        Detached float32, normalised like ``images`` and of their shape; visible patches are theirs.
    """
    side, patch = model.shape.side, model.shape.patch
    cells, hidden = model.patchify(images.float()), mask.hidden_positions
    mean, deviation = level(take(cells, hidden))
    guesses = prediction.detach().float() * deviation + mean
    cells = cells.scatter(1, hidden.unsqueeze(-1).expand_as(guesses), guesses)
    cells = cells.reshape(len(images), side, side, patch, patch, 3)
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(images.shape)
