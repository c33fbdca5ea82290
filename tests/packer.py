"""Pack in a process of its own: ``python packer.py DATA CACHE SIDE [WORK CALLS]``.

With WORK (``size`` or ``pixels``, as in ``decode``) the process is killed by SIGKILL at that many
calls of it, and saves as often as it can until then. Else prints the bytes of the images and the
growth of the process's memory.
"""

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from maskbench.data import decode, packing
from maskbench.data.folder import open_folder


def kill(work: str, calls: int) -> None:
    """Have this process killed at a call."""
    packing.SAVE = 0.0
    real, numbers = getattr(decode, work), iter(range(10**6))

    def counted(*args: Any) -> Any:
        if next(numbers) == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)

    setattr(decode, work, counted)


def main(data: str, cache: str, side: str, *killed: str) -> None:
    """Pack, or begin to."""
    if killed:
        kill(killed[0], int(killed[1]))
    Image.init()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = open_folder(Path(data), int(side), Path(cache))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(images.train.images.nbytes, (after - before) * 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
