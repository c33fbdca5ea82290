"""What comes from others is hostile: texts made plain, files kept in their folder, JSON bounded.

``docs/trust.md`` says what is promised and what is not.
"""

import json
import stat
from collections import defaultdict
from collections.abc import Iterable, Sized
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from pydantic_core import from_json

from maskbench.errors import StoreError

MAX_BYTES = 64 * 2**20
"""Of a record, a metrics file, a mask file."""
MAX_DEPTH, MAX_KEYS, MAX_ITEMS, MAX_LETTERS = 20, 1_000, 100_000, 100_000
LARGEST, SMALLEST = 1e30, 1e-30


def plain(value: Any, *, lines: bool = False) -> str:
    """A text that any terminal, page, log or JSON file can take: odd characters become escapes.

    Odd is what does not print: control characters and escape codes, bidirectional overrides,
    lone surrogates, separators other than the space.

    Args:
        value: Anything; shown as ``str`` shows it.
        lines: Keep line breaks.
    """
    text = str(value)
    if text.isprintable():
        return text
    kept = "\n" if lines else ""
    return "".join(c if c.isprintable() or c == kept else ascii(c)[1:-1] for c in text)


def inside(folder: Path, name: str, most: int | None = None) -> Path:
    """A regular file of a folder.

    Args:
        folder: Somebody's; may be a link itself.
        name: A file in it.
        most: Bytes it may have.

    Raises:
        FileNotFoundError: There is none.
        StoreError: It is outside of the folder (a link), no regular file, or too large.
    """
    path = folder / name
    try:
        real = path.resolve(strict=True)
        within, found = real.is_relative_to(folder.resolve(strict=True)), real.stat()
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
        why = getattr(error, "strerror", None) or "a loop of links"
        raise StoreError(f"{path} cannot be read: {why}.") from error
    if not within:
        raise StoreError(f"{path} is a link that leaves its folder; put the file itself there.")
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is not a regular file.")
    if most is not None and found.st_size > most:
        raise StoreError(f"{path} has {found.st_size:,} bytes; at most {most:,} are read.")
    return path


def listed(folder: Path, name: str, suffix: str) -> list[str]:
    """Names of the files in a folder of a folder, sorted; none where it is not there.

    Args:
        folder: Somebody's; may be a link itself.
        name: A folder in it.
        suffix: How a file's name ends; hidden files are not listed.

    Raises:
        StoreError: It is a link that leaves the folder, no folder, or cannot be listed.
    """
    path = folder / name
    try:
        within = path.resolve(strict=True).is_relative_to(folder.resolve(strict=True))
        names = sorted(each.name for each in path.iterdir()) if within else []
    except FileNotFoundError:
        return []
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
        why = getattr(error, "strerror", None) or "a loop of links"
        raise StoreError(f"{path} cannot be listed: {why}.") from error
    if not within:
        raise StoreError(f"{path} is a link that leaves its folder; put the folder itself there.")
    return [each for each in names if each.endswith(suffix) and not each.startswith(".")]


def read_text(folder: Path, name: str) -> str:
    """A text file of a folder; bytes that are no UTF-8 stay as marks.

    Raises:
        FileNotFoundError: There is none.
        StoreError: As ``inside``, or it cannot be read.
    """
    path = inside(folder, name, MAX_BYTES)
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error


def parse(text: str, smallest: float = SMALLEST) -> Any:
    """JSON of bounded depth, lengths and numbers.

    Args:
        text: The document.
        smallest: Numbers nearer to zero are refused, except zero. A file that holds p-values needs
            0: an honest one may be 1e-90.

    Raises:
        ValueError: It is not such JSON; says why in a few words.
    """
    value = _loaded(text)
    _bounded(value, smallest)
    return value


def _loaded(text: str) -> Any:
    """JSON as ``json.loads`` reads it, which takes twice as long and has the last word.

    The faster one refuses a little more: halves of surrogate pairs, and what is nested deeply.
    """
    try:
        return from_json(text, allow_inf_nan=False)
    except (ValueError, TypeError):
        pass
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"JSON has no {constant}")


def _bounded(value: Any, smallest: float) -> None:
    """Refuse what no run writes and what arithmetic or a page could choke on.

    Level by level and kind by kind: a file has some ten thousand numbers.
    """
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        kinds: defaultdict[type, list[Any]] = defaultdict(list)
        for item in level:
            kinds[type(item)].append(item)
        objects, lists = kinds[dict], kinds[list]
        names = set().union(*objects)
        _within(objects, MAX_KEYS, "keys in one object")
        _within(lists, MAX_ITEMS, "items in one list")
        _within([*names, *kinds[str]], MAX_LETTERS, "characters in one text")
        sizes = list(map(abs, (*kinds[int], *kinds[float])))
        if sizes and not (
            max(sizes) <= LARGEST and min(filter(None, sizes), default=1) >= smallest
        ):
            raise ValueError(f"a number is not within {smallest:g} and {LARGEST:g}")
        level = list(chain.from_iterable((*map(dict.values, objects), *lists)))
        depth += 1


def _within(found: Iterable[Sized], most: int, what: str) -> None:
    longest = max(map(len, found), default=0)
    if longest > most:
        raise ValueError(f"{longest:,} {what}, at most {most:,} are read")
