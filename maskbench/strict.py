"""Files that people write: strict TOML, and errors that name file, line and remedy."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from maskbench.errors import UsageError, unknown

WORDS = {
    "tuple_type": "write one value of its kind, or a list of them",
    "dict_type": "write a table",
    "model_type": "write a table",
}
"""What is wanted, where pydantic speaks of Python."""
Word = Annotated[str, Field(min_length=1)]
_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")


class Part(BaseModel):
    """A table of such a file: strict types, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        for key in given if isinstance(given, Mapping) else ():
            if key not in cls.model_fields:
                said = unknown("key", str(key), cls.model_fields)
                raise PydanticCustomError("unknown_key", "{said}", {"key": key, "said": said})
        return given


P = TypeVar("P", bound=Part)


def read(path: Path, kind: type[P], remedy: str) -> P:
    """What a file says.

    Args:
        path: The file.
        kind: Of what the whole file is.
        remedy: A sentence that ends the message about a wrong file.

    Raises:
        UsageError: It cannot be read, or something in it cannot be: file, line, key and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows begin with a mark
        return kind(**tomllib.loads(text))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error
    except UnicodeDecodeError as error:
        at = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}, line {at}: not UTF-8; save it as UTF-8.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = _written(tomllib.loads(text), first["loc"], missing=first["type"] == "missing")
        unknown_key = first.get("ctx", {}).get("key") if first["type"] == "unknown_key" else None
        more = [] if unknown_key is None else [str(unknown_key)]
        line = line_of(text, [*where, *more])
        spot = f", line {line}" if line else ""
        key = f"{'.'.join(where)}: " if where else ""
        raise UsageError(f"{path}{spot}: {key}{said(first)}. {remedy}") from error


def _written(told: Any, where: Sequence[Any], *, missing: bool) -> list[str]:
    """A place in a file without pydantic's own names for the kinds that a value may have."""
    found: list[str] = []
    for part in where:
        inside = part in told if isinstance(told, Mapping) else False
        if isinstance(told, list) and isinstance(part, int):
            inside = part < len(told)
        if inside:
            told = told[part]
        if inside or (missing and part is where[-1]):
            found.append(str(part))
    return found


def said(error: Any) -> str:
    """What pydantic says, as part of a sentence."""
    if error["type"] == "missing":
        return "this key is missing"
    if error["type"] in WORDS:
        return WORDS[error["type"]]
    text = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    return text[0].lower() + text[1:]


def line_of(text: str, where: Sequence[str]) -> int | None:
    """The line of a key, counted from 1: of the last part of its path that is written down.

    Args:
        text: A whole file.
        where: Names of tables, then of the key; numbers count ``[[tables]]`` of one name from 0.
    """
    table: list[str] = []
    counts: dict[tuple[str, ...], int] = {}
    best, depth = None, 0
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            table = _names(header[1])
            if line.lstrip().startswith("[["):
                seen = counts[tuple(table)] = counts.get(tuple(table), -1) + 1
                table = [*table, str(seen)]
            found = table
        else:
            key, equals, _ = line.partition("=")
            if not equals or key.lstrip().startswith("#"):
                continue
            found = [*table, *_names(key)]
        fits = len(found) <= len(where) and found == list(where[: len(found)])
        if fits and len(found) > depth:
            best, depth = number, len(found)
    return best


def _names(key: str) -> list[str]:
    """The parts of a dotted key."""
    return [part.strip(" \t\"'") for part in key.split(".")]
