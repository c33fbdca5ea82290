"""The mask network follows its regularisers alone.

Source: a control of CL-MAE (arXiv 2308.16572) with the factor fixed to 0; same cost. The network
learns to give binary, diverse masks of the right share and nothing about difficulty: what is left
of the effect is not the curriculum's.
"""

from ._masking_net import LearnedMasking


class Neutral(LearnedMasking):
    """CL-MAE's network with lambda = +0 throughout."""

    family = "adversarial"
    source = "Madan et al., arXiv 2308.16572 (factor fixed: our control)"
    summary = (
        "the mask network of CL-MAE without the reconstruction loss: regularisers only (control)"
    )
    fixed = 0.0
