r"""What draws the masks, all else equal: object or texture, centre or difficulty?

Saliency, edges, centre and difficulty go together. A logistic model of "is this patch hidden" on
all of them, each standardised within its image, tells them apart: with the number of hidden patches
fixed in every image it is a conditional logit, and covariates centred per image make the ordinary
logit a close approximation of it (Chamberlain, Review of Economic Studies 1980, for the
conditional model). Standard errors are clustered by image.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from maskbench.analysis.agreement import Bools, Floats, standardised

COLLINEAR = 1e8
STEEPEST = 15.0
"""A coefficient per deviation beyond this is no finite estimate: the covariate separates."""


@dataclass(frozen=True)
class Effect:
    """One standardised coefficient.

    Args:
        covariate: Its name.
        value: Change of the log-odds of being hidden per deviation; None where there is no
            estimate.
        low: End of the 95 % interval.
        high: End of the 95 % interval.
        p: Two-sided.
        images: How many.
        note: Why there is no estimate.
    """

    covariate: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    images: int
    note: str = ""


def effects(masks: Bools, covariates: Mapping[str, Floats]) -> list[Effect]:
    """Coefficients of all covariates together.

    Args:
        masks: (images, patches).
        covariates: Maps (images, patches) by name, constant in no image.
    """
    images = len(masks)
    if images < 2 or not covariates:
        return [_none(name, images, "fewer than two images") for name in covariates]
    x = np.stack([standardised(maps).ravel() for maps in covariates.values()], axis=1)
    if np.linalg.cond(x.T @ x) > COLLINEAR:
        return [_none(name, images, "covariates go together completely") for name in covariates]
    values, low, high, p = _fit(masks, x)
    if not np.isfinite(values).all() or np.abs(values).max() > STEEPEST:
        why = "a covariate says exactly what is hidden: no finite estimate"
        return [_none(name, images, why) for name in covariates]
    return [
        Effect(name, float(values[n]), float(low[n]), float(high[n]), float(p[n]), images)
        for n, name in enumerate(covariates)
    ]


def _fit(masks: Bools, x: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Coefficients without the intercept, ends of their intervals, and p-values."""
    import warnings

    from statsmodels.discrete.discrete_model import Logit
    from statsmodels.tools.sm_exceptions import (
        ConvergenceWarning,
        HessianInversionWarning,
        PerfectSeparationWarning,
    )

    images, patches = masks.shape
    design = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    groups = np.repeat(np.arange(images), patches)
    with warnings.catch_warnings():
        for kind in (ConvergenceWarning, HessianInversionWarning, PerfectSeparationWarning):
            warnings.simplefilter("ignore", kind)
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            fit = Logit(masks.ravel().astype(np.float64), design).fit(
                disp=0, maxiter=50, cov_type="cluster", cov_kwds={"groups": groups}
            )
        except np.linalg.LinAlgError:
            nothing = np.full(x.shape[1], np.nan)
            return nothing, nothing, nothing, nothing
        ends = fit.conf_int()
        return fit.params[1:], ends[1:, 0], ends[1:, 1], fit.pvalues[1:]


def _none(name: str, images: int, why: str) -> Effect:
    return Effect(name, None, None, None, None, images, why)
