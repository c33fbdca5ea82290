"""What ``maskbench probe`` is asked, and what of it cannot be."""

from pydantic import BaseModel, ConfigDict

from maskbench.errors import UsageError, unknown
from maskbench.probes import deep
from maskbench.probes.task import POOL

FROZEN = "frozen"
KINDS = (FROZEN, *deep.KINDS)
OTHERS = ("timm:", "mae:")
MOST_DRAWS = 1000


class Inquiry(BaseModel):
    """What is asked of an encoder.

    Attributes:
        encoder: A run, ``timm:NAME[@FILE]`` or ``mae:FILE``.
        data: A data set with classes; None for ``scenes``, unless a run was trained on others.
        kinds: Which probes; ``frozen`` is the few-shot curve and nearest neighbours.
        pool: Images of each split that are used at most by probes of cached features.
        draws: Few-shot subsets per shot.
        seed: Of what is trained.
        epochs: Of what is trained; None for each probe's own.
        side: Input side of the encoder, pixels; None for its own.
        stored: Side at which images are kept, pixels, where they are smaller than the input and are
            to be enlarged; None to refuse such images.
        supervised: Whether the same encoder is trained on the labels, as a control.
        device: ``cpu``, ``cuda`` or ``auto``.
        max_bad: Largest share of unusable files that is tolerated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    data: str | None = None
    kinds: tuple[str, ...] = (FROZEN,)
    pool: int = POOL
    draws: int = 10
    seed: int = 0
    epochs: int | None = None
    side: int | None = None
    stored: int | None = None
    supervised: bool = False
    device: str = "auto"
    max_bad: float = 0.01

    @property
    def of_others(self) -> bool:
        """Whether the encoder is no run of the store."""
        return self.encoder.startswith(OTHERS)


def check(inquiry: Inquiry) -> None:
    """Refuse what cannot be, before anything is loaded.

    Raises:
        UsageError: An unknown probe, a number out of its range, or a control that cannot be had.
    """
    if inquiry.supervised and inquiry.of_others:
        raise UsageError(
            "--supervised trains a run's encoder on the labels for as many images as that run saw: "
            "it needs a run, not a checkpoint of others."
        )
    for kind in inquiry.kinds:
        if kind not in KINDS:
            raise UsageError(unknown("probe", kind, KINDS))
    if inquiry.supervised and (FROZEN not in inquiry.kinds or inquiry.side):
        raise UsageError(
            "--supervised is a control of the frozen probes, at the run's own side: name frozen "
            "among --probes, with --protocol ours and without --side."
        )
    if inquiry.draws > MOST_DRAWS:
        raise UsageError(f"--draws {inquiry.draws} is out of range: choose 1 to {MOST_DRAWS:,}.")
    ranges = {
        "--pool": (inquiry.pool, 1),
        "--draws": (inquiry.draws, 1),
        "--seed": (inquiry.seed, 0),
        "--epochs": (inquiry.epochs, 1),
        "--side": (inquiry.side, 1),
        "--enlarge-from": (inquiry.stored, 8),
    }
    for option, (value, low) in ranges.items():
        if value is not None and value < low:
            raise UsageError(f"{option} {value} is out of range: choose at least {low}.")
