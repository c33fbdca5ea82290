r"""CL-MAE: a masking network that turns from partner to adversary of the autoencoder.

Source: Madan et al., CL-MAE: Curriculum-Learned Masked Autoencoders, arXiv 2308.16572, and its
public code. Written from the equations; where paper and code could differ the code is followed.

A small transformer reads all patch embeddings and gives a keep-probability :math:`m_{bi}` per
patch (large = visible). Two updates per step, on the same batch:

(a) The autoencoder minimises its loss under the hard mask: the ``visible`` patches of highest
    :math:`m` stay. No gradient reaches the network here.
(b) The network alone minimises

    .. math:: \lambda(t)\,R + G + K + D

    * :math:`R = \sum (1-m_{bi})\,\ell_{bi} / \sum (1-m_{bi})`, with :math:`\ell` the per-patch loss
      of a *soft* pass (every patch enters, scaled by its :math:`m`; no mask token);
    * :math:`G = \lambda_g \,\mathrm{mean}\,[\sigma\sqrt{2\pi}\,
      e^{-(m_{bi}-1/2)^2 / 2\sigma^2}]`, which drives the scores to 0 or 1;
    * :math:`K = \lambda_k \sum_b \mathrm{KL}(\bar m_b \,\|\, \tau)` of two-point distributions,
      which holds the mean score at the target :math:`\tau`;
    * :math:`D = \lambda_d\,\mathrm{mean}_{b<b'} e^{-0.1 \lVert m_b - m_{b'} \rVert_2}`, which keeps
      masks of different images apart.

:math:`\lambda` falls from +1 (hide what is easy: partner) through 0 to -1 (hide what is hard:
adversary).

What differs from the published code, on purpose: two optimisers instead of one shared (there, on
older torch, momentum and weight decay of one network moved the other); the diversity term is one
matrix operation instead of a double loop; scoring in (a) stores no activations. Some settings
differ by default: lambda moves every step and passes through 0 (``schedule=epoch`` as published:
every epoch, jumping over 0); the target is the visible share (``target=published`` for the constant
0.25, the same at 75 % hidden); and the network's learning rate stays up after the warm-up, so that
something is left of it when lambda turns negative (``lr_schedule=model`` for the published decay).
And the network has half of the model's learning rate and a weight decay of 15 (published: ``lr=1``,
``weight_decay=0.05``): binarised scores sit in the flat ends of the sigmoid, and the bump of
:math:`G` between them is steeper than the pull of :math:`R`, so that with 0.05 the masks that the
partner chose often outlive its turning (``docs/notes.md`` has the measurements; short runs only).
The equations are in ``_masking_net.py``, shared with the controls whose lambda never moves
(``adversarial``, ``cooperative``, ``neutral``). Known leak, kept:
the blocks are pre-norm, and LayerNorm(m x) = LayerNorm(x) for any m well above sqrt(eps), so a
"soft-hidden" patch is hardly hidden and R mostly ranks patches by their loss.
"""

from maskbench.strategy import Context

from ._curriculum import CurriculumSettings
from ._masking_net import LearnedMasking


class CLMAE(LearnedMasking):
    """Learned curriculum masking; see the module's text for the equations."""

    family = "learned curriculum"
    source = "Madan et al., arXiv 2308.16572"
    summary = "a mask network that first hides what is easy to rebuild, then what is hard"

    class Settings(LearnedMasking.Settings, CurriculumSettings):
        """CL-MAE's knobs; defaults as published unless said otherwise."""

    def factor(self, context: Context) -> float:
        """Lambda now."""
        return float(self.settings.factor(context))
