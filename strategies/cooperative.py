"""The mask network is a partner from the first step to the last.

Source: a control of CL-MAE (arXiv 2308.16572) with the factor fixed to +1; same cost. Hides what
the autoencoder finds easy, always: a lower training loss that is not to be taken for progress.
"""

from maskbench.strategy import Field

from ._masking_net import LearnedMasking


class Cooperative(LearnedMasking):
    """CL-MAE's network with lambda = +1 throughout."""

    family = "adversarial"
    source = "Madan et al., arXiv 2308.16572 (factor fixed: our control)"
    summary = "the mask network of CL-MAE as a partner throughout: hides what is easy (control)"

    class Settings(LearnedMasking.Settings):
        """CL-MAE's knobs; lambda does not move."""

        first: float = Field(1.0, ge=-1, le=1, description="lambda at the start")
        last: float = Field(1.0, ge=-1, le=1, description="lambda at the end")
