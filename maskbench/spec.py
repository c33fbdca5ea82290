"""What a run is asked to do, and the resolved settings it is known by."""

import hashlib
import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from maskbench.budget import DEFAULT_BUDGET, Budget
from maskbench.errors import UsageError, unknown
from maskbench.shape import PRESETS, Preset


class Request(BaseModel):
    """A run as a user asks for it; ``None`` means the preset's or the obvious choice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str
    budget: str = DEFAULT_BUDGET
    data: str = "scenes"
    model: str = "nano"
    seed: int = 0
    sets: tuple[str, ...] = ()
    hidden: int | None = None
    batch: int | None = None
    lr: float | Literal["tuned"] | None = None
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    limit: int | None = None
    draws: int = 10
    max_bad: float = 0.01
    probe_at: tuple[float, ...] = ()
    scored_on: Literal["test", "development"] = "test"


class RunSettings(BaseModel):
    """Everything a result depends on, resolved; two runs with equal settings are the same run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str
    strategy_settings: dict[str, Any]
    strategy_digest: str = Field(description="SHA-256 of the strategy's file")
    budget: str
    data: str
    data_fingerprint: str
    limit: int | None
    max_bad: float
    model: str
    hidden: int
    batch: int
    base_lr: float
    weight_decay: float = 0.05
    warmup: float = 0.05
    seed: int
    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16"]
    compile: bool
    draws: int
    probe_at: tuple[float, ...] = Field(default=(), description="shares to probe at, too")
    lr_trials: int = Field(default=0, description="learning rates tried")
    lr_grid: tuple[float, ...] = Field(default=(), description="which they were")
    scored_on: Literal["test", "development"] = "test"

    def run_id(self) -> str:
        """A readable name that ends in a hash of all settings.

        The rates that were tried are only ever added to: their number stands for them.
        """
        text = json.dumps(self.model_dump(mode="json", exclude={"lr_grid"}), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        strategy = self.strategy.rpartition(":")[2]
        budget = Budget.parse(self.budget).short()
        words = (strategy, self.model, budget, f"s{self.seed}", digest)
        return "-".join(re.sub(r"[^A-Za-z0-9.+_]", "_", word) for word in words)


def preset(name: str) -> Preset:
    """A model preset by name.

    Raises:
        UsageError: No such preset.
    """
    if name not in PRESETS:
        raise UsageError(unknown("model preset", name, PRESETS))
    return PRESETS[name]


def learning_rate(text: str | None) -> float | Literal["tuned"] | None:
    """What ``--lr`` takes: a number, or ``tuned``.

    Raises:
        UsageError: Neither.
    """
    if text is None or text == "tuned":
        return text  # type: ignore[return-value]
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--lr {text!r}: give a number, or 'tuned'.") from error


def shares(text: str) -> tuple[float, ...]:
    """Shares of the budget from ``25,50,75,100%``; the end is probed anyway and left out.

    Raises:
        UsageError: Not a list of percentages above 0 and up to 100.
    """
    try:
        found = {float(word) / 100 for word in text.replace("%", "").split(",")}
    except ValueError:
        found = {0.0}
    if not all(0 < share <= 1 for share in found):
        raise UsageError(f"--probe-at {text!r}: write percentages of the budget: 25,50,75,100%.")
    return tuple(sorted(found - {1.0}))


def check_numbers(request: Request) -> None:
    """Refuse numbers that cannot be, with the allowed range.

    Raises:
        UsageError: A number is out of its range.
    """
    patches = preset(request.model).shape.patches
    ranges = {
        "--hidden": (request.hidden, 1, patches - 1),
        "--seed": (request.seed, 0, 2**63 - 1),
        "--limit": (request.limit, 1, None),
        "--draws": (request.draws, 1, 1000),
        "--max-bad": (request.max_bad, 0, 1),
    }
    for option, (value, low, high) in ranges.items():
        if value is not None and (value < low or (high is not None and value > high)):
            upper = f"{high:,}" if high is not None else "the number of images"
            raise UsageError(f"{option} {value} is out of range: choose {low} to {upper}.")
    if isinstance(request.lr, float) and not 0 < request.lr < 1000:
        raise UsageError(f"--lr {request.lr} is out of range: choose a number above 0.")


def strategy_settings(cls: Any, sets: tuple[str, ...]) -> Any:
    """A strategy's settings from ``key=value`` texts.

    Args:
        cls: The strategy class.
        sets: What ``--set`` was given. The settings of a part of a composed strategy are
            ``part.key``, or ``key`` where no other part has one of that name.

    Raises:
        UsageError: No ``=``, an unknown or repeated key, or a value of the wrong kind; the
            message lists the settings with defaults and help.
    """
    from pydantic import ValidationError

    fields = _fields(cls.Settings)
    table = "".join(
        f"\n  {name} = {field.default}  ({field.description or 'no description'})"
        for name, field in fields.items()
    )
    listing = f"\nSettings of this strategy:{table or ' none'}"
    values: dict[str, str] = {}
    for text in sets:
        given, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r} is not key=value.{listing}")
        key = _full_key(given, fields, listing)
        if key in values:
            raise UsageError(f"--set {given} is given twice.")
        values[key] = value
    tree: dict[str, Any] = {}
    for key, value in values.items():
        part, dot, name = key.partition(".")
        if dot:
            tree.setdefault(part, {})[name] = value
        else:
            tree[key] = value
    try:
        return cls.Settings(**tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise UsageError(
            f"--set {where}={values.get(where)}: {first['msg'].lower()}.{listing}"
        ) from error


def _fields(settings: Any) -> dict[str, Any]:
    """All settings by full key; a composed strategy's parts have their own."""
    found: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        nested = getattr(field.annotation, "model_fields", None)
        if nested is None:
            found[name] = field
        else:
            found.update({f"{name}.{inner}": value for inner, value in nested.items()})
    return found


def _full_key(given: str, fields: dict[str, Any], listing: str) -> str:
    part, dot, name = given.rpartition(".")
    key = part.replace("-", "_") + dot + name
    if key in fields:
        return key
    found = [full for full in fields if full.partition(".")[2] == key]
    if len(found) > 1:
        raise UsageError(f"--set {given} is ambiguous: write {' or '.join(found)}.{listing}")
    if not found:
        raise UsageError(unknown("setting", given, fields) + listing)
    return found[0]
