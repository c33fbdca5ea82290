"""Several strategies as one: ``prototypes+clmae`` orders images by one and masks by the other.

A part that says ``modifier = True`` leaves the masks to another: it brings an order, a schedule of
the hidden count, an extra loss. Masks, order and count must each come from one part; losses,
parameters, logs and costs add up. Modifiers alone are completed with ``random``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import create_model
from torch import Tensor, nn

from maskbench.errors import StrategyError, UsageError
from maskbench.mask import Grid, Mask
from maskbench.model import Outcome
from maskbench.shape import ModelShape
from maskbench.strategy import Batch, Context, DataView, MaskStrategy, StrategySettings, said_flops

Part = tuple[str, type[MaskStrategy]]
SINGLE = {"mask": "masks", "order": "order of images", "hidden": "number of hidden patches"}


class Composite(MaskStrategy):
    """Parts that act as one strategy; made by ``compose``."""

    classes: ClassVar[tuple[Part, ...]] = ()

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        made = {f"of_{name}": cls(getattr(self.settings, name)) for name, cls in self.classes}
        self.parts = nn.ModuleDict(made)

    def _all(self) -> list[MaskStrategy]:
        return [part for part in self.parts.values() if isinstance(part, MaskStrategy)]

    def _the(self, method: str) -> Any:
        """The method of the one part that overrides it, or else of the base class."""
        for part in self._all():
            if overrides(type(part), method):
                return getattr(part, method)
        return getattr(super(), method)

    def setup(self, context: Context, data: DataView) -> None:
        """Set every part up."""
        for part in self._all():
            part.setup(context, data)

    def hidden(self, progress: float, grid: Grid) -> int:
        """From the part that schedules it."""
        return int(self._the("hidden")(progress, grid))

    def mask(self, batch: Batch, context: Context) -> Mask:
        """From the part that masks."""
        mask: Mask = self._the("mask")(batch, context)
        return mask

    def keep(self, batch: Batch, context: Context) -> Tensor | None:
        """From the part that masks."""
        return next(
            (k for part in self._all() if (k := part.keep(batch, context)) is not None), None
        )

    def joint_parameters(self) -> list[nn.Parameter]:
        """Of all parts."""
        return [parameter for part in self._all() for parameter in part.joint_parameters()]

    def extra_loss(self, batch: Batch, outcome: Outcome, context: Context) -> Tensor | None:
        """The sum over the parts that have one."""
        losses = [part.extra_loss(batch, outcome, context) for part in self._all()]
        given = [loss for loss in losses if loss is not None]
        return sum(given[1:], given[0]) if given else None

    def after_step(
        self, batch: Batch, outcome: Outcome, context: Context
    ) -> Mapping[str, Tensor | float]:
        """Of all parts, in order."""
        logs = [part.after_step(batch, outcome, context) for part in self._all()]
        return {name: value for log in logs for name, value in log.items()}

    def order(self, epoch: int, images: int, context: Context) -> Tensor:
        """From the part that orders."""
        order: Tensor = self._the("order")(epoch, images, context)
        return order

    def cost(self, grid: Grid, shape: ModelShape) -> Mapping[str, int]:
        """The sum over all parts."""
        return _sum([said_flops(part, "cost", part.cost(grid, shape)) for part in self._all()])

    @classmethod
    def says_cost(cls) -> bool:
        """Whether every part does."""
        return all(part.says_cost() for _, part in cls.classes)

    def spent(self) -> Mapping[str, int]:
        """The sum over all parts."""
        return _sum([said_flops(part, "spent", part.spent()) for part in self._all()])

    def prior(self) -> str:
        """Of all parts that have one."""
        return "; ".join(text for part in self._all() if (text := part.prior()))


def overrides(cls: type[MaskStrategy], method: str) -> bool:
    """Whether a strategy has a method of its own."""
    return getattr(cls, method) is not getattr(MaskStrategy, method)


def compose(text: str, parts: Sequence[Part]) -> type[MaskStrategy]:
    """One class from several parts; their settings become ``part.setting``.

    Args:
        text: What the user wrote.
        parts: Names (identifiers) and classes; at least one masks.

    Raises:
        UsageError: Two parts decide the same thing, or a part is given twice.
        StrategyError: A setting of a part has no default.
    """
    names = [name for name, _ in parts]
    if len(set(names)) < len(names):
        raise UsageError(f"strategy {text!r} names a part twice.")
    for method, what in SINGLE.items():
        deciding = [name for name, cls in parts if overrides(cls, method)]
        if len(deciding) > 1:
            raise UsageError(
                f"strategy {text!r}: {' and '.join(deciding)} both decide the {what}; keep one."
            )
    for name, cls in parts:
        bare = [key for key, field in cls.Settings.model_fields.items() if field.is_required()]
        if bare:
            raise StrategyError(
                f"strategy {name}: every setting needs a default; {bare} have none."
            )
    fields: dict[str, Any] = {name: (cls.Settings, cls.Settings()) for name, cls in parts}
    settings: Callable[..., type[StrategySettings]] = create_model
    facts = {
        "classes": tuple(parts),
        "Settings": settings("Settings", __base__=StrategySettings, **fields),
        "family": " + ".join(dict.fromkeys(cls.family for _, cls in parts)),
        "source": "; ".join(dict.fromkeys(cls.source for _, cls in parts)),
        "summary": "; ".join(cls.summary for _, cls in parts),
        "__doc__": f"Parts: {', '.join(names)}.",
        "__module__": __name__,
    }
    return type("Composite", (Composite,), facts)


def _sum(costs: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for cost in costs:
        for part, flops in cost.items():
            total[part] = total.get(part, 0) + flops
    return total
