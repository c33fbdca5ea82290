"""Random masking, the baseline everything is compared with.

Source: He et al., Masked Autoencoders Are Scalable Vision Learners, arXiv 2111.06377, section 3.
Hides a uniformly random set of patches, another one for every image at every step: no position
and no content is preferred, so the task is neither easy nor hard by choice.
"""

from maskbench.strategy import Batch, Context, Mask

from ._free import FreeOfProducts


class Random(FreeOfProducts):
    """Uniform noise per patch; the patches with the highest noise are hidden."""

    family = "data-free"
    source = "He et al., arXiv 2111.06377"
    summary = "hides a uniformly random set of patches, another one for every image and step"

    def mask(self, batch: Batch, context: Context) -> Mask:
        """Hide the ``hidden`` highest of independent uniform numbers (float32)."""
        return Mask.from_scores(context.uniform("mask", batch), context.grid)
