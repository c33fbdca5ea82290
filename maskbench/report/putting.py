"""Files of a report."""

import os
from pathlib import Path


def put(path: Path, content: str | bytes) -> None:
    """Write a file that is whole or not there; what was there is replaced, a link is not followed.

    Raises:
        OSError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    with temporary.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)
