"""The metrics file of a run while it is written: one JSON object per line, never torn twice."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskbench.files import replacing
from maskbench.results import plain_json


class MetricsFile:
    """The append-only metrics file of a run: one JSON object per line.

    Args:
        path: The file.
        keep: Its first lines that stay; a resumed run writes the later ones again.

    Raises:
        StoreError: It cannot be written.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        self.lines = min(keep, len(lines))
        with replacing(path) as file:
            file.writelines(lines[: self.lines])
        self._file = path.open("a", encoding="utf-8")

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line and hand it to the operating system."""
        self._file.write(json.dumps(plain_json(row)) + "\n")
        self._file.flush()
        self.lines += 1

    def sync(self) -> None:
        """Have all lines on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """No more lines."""
        self._file.close()
