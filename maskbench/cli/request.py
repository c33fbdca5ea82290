"""Options as a request, with everything refused that can be before torch is loaded."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskbench.spec import Request


def checked(
    *, sets: list[str] | None, lr: str | None, probe_at: str = "100%", **given: Any
) -> "Request":
    """The request that options make.

    Args:
        sets: What ``--set`` was given.
        lr: What ``--lr`` was given.
        probe_at: What ``--probe-at`` was given.
        given: The other fields of a request, as they are.

    Raises:
        UsageError: A name or number that cannot be.
    """
    from maskbench.budget import parse
    from maskbench.data.kinds import check_kind
    from maskbench.registry import check_name
    from maskbench.spec import Request, check_numbers, learning_rate, preset, shares

    check_name(given["strategy"])
    check_kind(given["data"])
    parse(given["budget"])
    preset(given["model"])
    chosen: dict[str, Any] = {"lr": learning_rate(lr), "probe_at": shares(probe_at)}
    request = Request(sets=tuple(sets or ()), **given, **chosen)
    check_numbers(request)
    return request
