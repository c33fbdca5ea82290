"""The mask network attacks from the first step to the last.

Source: a control of CL-MAE (arXiv 2308.16572) with the factor fixed to -1; same cost. Hides what
the autoencoder finds hard, always: does a curriculum do more than an attack?
"""

from ._masking_net import LearnedMasking


class Adversarial(LearnedMasking):
    """CL-MAE's network with lambda = -1 throughout."""

    family = "adversarial"
    source = "Madan et al., arXiv 2308.16572 (factor fixed: our control)"
    summary = "the mask network of CL-MAE as an adversary throughout: hides what is hard"
    fixed = -1.0
