"""Files that are whole or not there: temporary file, flush, fsync, rename, fsync of the folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from maskbench.errors import StoreError

REASONS = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the file-size limit (ulimit -f)",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "the folder may not be written",
}


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` when the block ends well, and only then.

    Raises:
        StoreError: It cannot be written; what was there before is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(unwritten(path, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def unwritten(path: Path, error: OSError) -> str:
    """Why a file could not be written, and what to do."""
    why = REASONS.get(error.errno or 0, error.strerror or str(error))
    return f"cannot write {path}: {why}. Free space or mend that, or choose another --out."


def _sync_folder(folder: Path) -> None:
    """Make a rename last; file systems that cannot sync a folder are left alone."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
