"""The mask network is a partner from the first step to the last.

Source: a control of CL-MAE (arXiv 2308.16572) with the factor fixed to +1; same cost. Hides what
the autoencoder finds easy, always: a lower training loss that is not to be taken for progress.
"""

from ._masking_net import LearnedMasking


class Cooperative(LearnedMasking):
    """CL-MAE's network with lambda = +1 throughout."""

    family = "adversarial"
    source = "Madan et al., arXiv 2308.16572 (factor fixed: our control)"
    summary = "the mask network of CL-MAE as a partner throughout: hides what is easy (control)"
    fixed = 1.0
