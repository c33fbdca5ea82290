"""What a classifier's scores are worth: accuracy and calibration, for many classifiers at once."""

import torch
from torch import Tensor

BINS = 15
"""Equal-width bins of confidence (Guo et al., arXiv 1706.04599, section 2)."""


def accuracies(scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """How often the highest score is the right one; equal scores count for the smaller class.

    Args:
        scores: (classifiers, classes, images).
        labels: (images,), below the number of classes.

    Returns:
        ``accuracy`` and ``macro_accuracy``, the mean over classes that the images have:
        (classifiers,) each, float64.
    """
    right = (scores.argmax(1) == labels).to(torch.float64)
    counts = torch.bincount(labels)
    share = (counts[labels] * (counts > 0).sum()).to(right.dtype).reciprocal()
    return {"accuracy": right.mean(1), "macro_accuracy": (right @ share).clamp(max=1)}


def calibration(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """How far probabilities can be believed.

    Args:
        logits: (classifiers, classes, images), float64; minus infinity for an impossible class.
        labels: (images,).

    Returns:
        (classifiers,) each: ``nll``, the mean of -log of the right class's probability, at least
        2e-16 (a class that was never seen has zero); and ``ece``, the mean distance between
        confidence and accuracy over ``BINS`` bins of confidence.
    """
    logs = logits.log_softmax(1)
    right = logs.gather(1, labels.expand(len(logits), 1, -1))[:, 0]
    least = torch.finfo(torch.float64).eps
    best, found = logs.max(1)
    confidence = best.exp()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    off = (found == labels).to(confidence.dtype) - confidence
    gaps = torch.zeros(len(logits), BINS, dtype=off.dtype, device=off.device)
    ece = gaps.scatter_add_(1, bins, off).abs().sum(1) / labels.numel()
    return {"nll": -right.clamp(min=torch.log(torch.tensor(least)).item()).mean(1), "ece": ece}
