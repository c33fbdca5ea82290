"""Classifiers fitted on parts of a pool of frozen features, and scored on the test images."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskbench.probes.features import Features, standardise
from maskbench.probes.logistic import MAX_ITERATIONS, pieces, solve
from maskbench.probes.measures import accuracies, calibration

Marks = dict[str, Any]
"""What one fit is worth, plain numbers."""


class Classifiers:
    """A pool and test images, z-scored by the pool, to fit many small problems on.

    A problem's places are positions in the pool, (problems, n); -1 where a problem has fewer.

    Args:
        train: Features of the pool, (train images, D).
        test: (test images, D).
        train_labels: (train images,).
        test_labels: (test images,).
        device: Where to compute, in float64.

    Raises:
        DivergedError: A feature is not finite.
    """

    def __init__(
        self,
        train: Features,
        test: Features,
        train_labels: NDArray[np.int64],
        test_labels: NDArray[np.int64],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        pool, queries = standardise(train, test)
        self.pool, self.queries = (torch.from_numpy(part).to(device) for part in (pool, queries))
        self.labels = torch.from_numpy(train_labels).to(device)
        self.answers = torch.from_numpy(test_labels).to(device)
        self.classes = 1 + int(max(train_labels.max(), test_labels.max()))

    def logistic(
        self, places: Tensor, strengths: Mapping[str, float], max_iterations: int = MAX_ITERATIONS
    ) -> dict[str, list[Marks]]:
        """Logistic regression of every problem at every strength.

        Args:
            places: As above.
            strengths: Name to scikit-learn's C.
            max_iterations: A fit is given up after so many.

        Returns:
            Name to marks by problem: ``measures``' accuracies and calibration, ``C``, ``n_iter``,
            ``converged``.
        """
        parts: dict[str, list[dict[str, Tensor]]] = {name: [] for name in strengths}
        more = len(strengths) * self.classes * self.pool.shape[1]
        for part in self._pieces(len(places), more):
            fits = solve(
                self.pool,
                self.labels,
                places[part].clamp(min=0),
                self.classes,
                strengths=self.pool.new_tensor(list(strengths.values())),
                weights=(places[part] >= 0).to(self.pool.dtype),
                max_iterations=max_iterations,
            )
            for at, name in enumerate(strengths):
                logits = fits.weights[:, at] @ self.queries.T
                logits += fits.intercepts[:, at, :, None]
                marks = accuracies(logits, self.answers) | calibration(logits, self.answers)
                ways = {"n_iter": fits.iterations[:, at], "converged": fits.converged[:, at]}
                parts[name].append(marks | ways)
        return {
            name: [{**marks, "C": strength} for marks in _by_problem(parts[name])]
            for name, strength in strengths.items()
        }

    def class_means(self, places: Tensor) -> list[Marks]:
        """The class whose mean has the largest cosine with an image; it has nothing to tune.

        Args:
            places: As above.

        Returns:
            ``measures``' accuracies, by problem.
        """
        parts = []
        for part in self._pieces(len(places), places.shape[1] * self.pool.shape[1]):
            given = (places[part] >= 0).to(self.pool.dtype)
            names = self.labels[places[part].clamp(min=0)]
            images = self.pool[places[part].clamp(min=0)] * given[..., None]
            none = self.pool.new_zeros(len(images), self.classes, images.shape[2])
            sums = none.scatter_add_(1, names[..., None].expand_as(images), images)
            directions = torch.nn.functional.normalize(
                sums, dim=2, eps=torch.finfo(sums.dtype).tiny
            )
            absent = none.new_zeros(none.shape[:2]).scatter_add_(1, names, given) == 0
            cosines = (directions @ self.queries.T).masked_fill_(absent[..., None], -torch.inf)
            parts.append(accuracies(cosines, self.answers))
        return list(_by_problem(parts))

    def _pieces(self, count: int, more: int = 0) -> Iterable[slice]:
        """Problems whose scores are looked at together; each takes so many more numbers."""
        width = self.pool.shape[1]
        return pieces(count, 8 * (more + self.classes * (4 * len(self.queries) + 2 * width)))


def _by_problem(parts: list[dict[str, Tensor]]) -> Iterable[Marks]:
    """Measures by name, in pieces, to plain numbers by problem."""
    names = list(parts[0])
    columns = (torch.cat([part[name] for part in parts]).tolist() for name in names)
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
