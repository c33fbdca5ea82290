"""The mask network attacks from the first step to the last.

Source: the ablation of CL-MAE in which the factor is fixed to -1 (arXiv 2308.16572); same cost.
Hides what the autoencoder finds hard, always: does a curriculum do more than an attack?
"""

from maskbench.strategy import Field

from ._masking_net import LearnedMasking


class Adversarial(LearnedMasking):
    """CL-MAE's network with lambda = -1 throughout."""

    family = "adversarial"
    source = "Madan et al., arXiv 2308.16572 (factor fixed to -1)"
    summary = "the mask network of CL-MAE as an adversary throughout: hides what is hard"

    class Settings(LearnedMasking.Settings):
        """CL-MAE's knobs; lambda does not move."""

        first: float = Field(-1.0, ge=-1, le=1, description="lambda at the start")
        last: float = Field(-1.0, ge=-1, le=1, description="lambda at the end")
