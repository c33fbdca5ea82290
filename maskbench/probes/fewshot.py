"""Few-shot probes on frozen features: nested subsets, logistic regression, nearest class mean.

The labelled images of a draw are the first of their class in the order of a hash of their ids.
So they are nested across shots, the same for every strategy, and depend neither on the order of
files nor on other classes nor on any random number generator.
"""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from maskbench.errors import DataError
from maskbench.probes.features import Features, Floats, standardise

SHOTS = (1, 2, 4, 8, 16)
DRAWS = 10
SPLIT_VERSION = "1"
C = 100.0
"""Scikit-learn's C, fixed before any strategy was ranked.

Chosen among 1 to 10,000 by the mean accuracy over shots and 4 draws of features that no strategy
has touched: raw pixels and an untrained encoder's, on scenes, CIFAR-10 and scikit-learn's digits:
30.6, 32.1, 32.6, 32.6, 32.4 %. The smaller of the two best takes fewer iterations.
"""
TOLERANCE = 1e-6
MAX_ITERATIONS = 2000

Labels = NDArray[np.int64]
Subset = Mapping[int, Labels]


def class_order(texts: Iterable[str], labels: Labels, classes: int) -> tuple[Labels, Labels]:
    """Images by class, and within a class by the BLAKE2b-128 of their text.

    Args:
        texts: What is hashed for each image.
        labels: (images,).
        classes: How many classes there are.

    Returns:
        The order, (images,), and how many images each class has, (classes,).
    """
    digests = (hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    keys = np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2)
    order = np.lexsort((keys[:, 1], keys[:, 0], labels))
    return order, np.bincount(labels, minlength=classes)


def subsets(
    ids: Sequence[str],
    labels: Labels,
    classes: Sequence[str],
    *,
    dataset: str,
    draw: int,
    shots: Sequence[int] = SHOTS,
) -> dict[int, Labels]:
    """The labelled images of one draw: for every shot its positions, class by class.

    Args:
        ids: A stable id per train image.
        labels: (images,), positions in ``classes``.
        classes: Class names.
        dataset: Name of the data set, part of the key.
        draw: Which draw, from 0.
        shots: Images per class; those that a class cannot fill are left out for all.

    Returns:
        Shot to positions, (classes * shot,).

    Raises:
        DataError: Two images share an id.
    """
    if len(set(ids)) < len(ids):
        raise DataError("two train images share an id; few-shot subsets need one per image")
    prefix = f"maskbench-fewshot-v1|{dataset}|{SPLIT_VERSION}"
    names = (classes[label] for label in labels.tolist())
    texts = (f"{prefix}|{name}|{sid}|{draw}" for name, sid in zip(names, ids, strict=True))
    order, counts = class_order(texts, labels, len(classes))
    first = (np.cumsum(counts) - counts)[:, None]
    return {n: order[first + np.arange(n)].ravel() for n in shots if n <= counts.min()}


def few_shot(
    train: Features,
    test: Features,
    train_labels: Labels,
    test_labels: Labels,
    *,
    draws: Sequence[Subset],
    strength: float = C,
) -> list[dict[str, Any]]:
    """Fit and score both few-shot probes on every subset.

    The matrices are too small to share between cores: on a busy machine a thread per core spends
    its time waiting for the others. So linear algebra takes one core until this returns.

    Args:
        train: The unlabelled pool, (train images, D).
        test: (test images, D).
        train_labels: (train images,); only those of the subsets are looked at.
        test_labels: (test images,).
        draws: Subsets of each draw, made by ``subsets``.
        strength: Scikit-learn's C, the same at every shot.

    Returns:
        Two rows per subset, ``logreg`` and ``ncm``.

    Raises:
        DivergedError: A feature is not finite.
    """
    pool, queries = standardise(train, test)
    rows = []
    with threadpool_limits(1, user_api="blas"):
        for draw, subset in enumerate(draws):
            for shots, chosen, labelled, projected in _in_span(pool, queries, subset):
                shared = {"shots": shots, "draw": draw, "n_train": len(chosen)}
                labels = train_labels[chosen]
                found, fit = logistic_regression(labelled, labels, projected, strength)
                score = float((found == test_labels).mean())
                rows.append({"probe": "logreg", **shared, "accuracy": score, **fit})
                score = float((class_means(labelled, labels, projected) == test_labels).mean())
                rows.append({"probe": "ncm", **shared, "accuracy": score})
    return rows


def _in_span(
    pool: Floats, queries: Floats, subset: Subset
) -> Iterator[tuple[int, Labels, Floats, Floats]]:
    """Every shot of a draw, with its images and the queries in the span of the draw's images.

    The minimum of a logistic regression with an L2 penalty lies in that span whatever the other
    dimensions (the representer theorem), and so do class means: results are the same, and raw
    pixels take a sixth of the time.

    Yields:
        Shots, positions, and coordinates of the labelled images and of the queries.
    """
    if subset:
        basis = np.linalg.qr(pool[subset[max(subset)]].T)[0]
        projected = queries @ basis
        for shots, chosen in subset.items():
            yield shots, chosen, pool[chosen] @ basis, projected


def logistic_regression(
    labelled: Floats, labels: Labels, queries: Floats, strength: float
) -> tuple[Labels, dict[str, Any]]:
    """Multinomial logistic regression with an L2 penalty and an intercept, solved by L-BFGS.

    Returns:
        The class of every query, and the fit's ``C``, ``n_iter`` and ``converged``.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, tol=TOLERANCE, max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(labelled, labels)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    fit = {"C": strength, "n_iter": int(np.max(model.n_iter_)), "converged": converged}
    found: Labels = np.asarray(model.predict(queries), np.int64)
    return found, fit


def class_means(labelled: Floats, labels: Labels, queries: Floats) -> Labels:
    """The class whose mean has the largest cosine with a query; it has nothing to tune."""
    names, which = np.unique(labels, return_inverse=True)
    means = np.eye(len(names))[which].T @ labelled
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    found: Labels = names[(queries @ means.T).argmax(1)]
    return found
