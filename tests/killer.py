"""Kill a run again and again: ``python killer.py STORE PICTURES KILLS SEED [STRATEGY]``.

Torch is loaded once; every start of the run is a fork, killed by SIGKILL after a random time. The
run saves as often as it can, so that many kills fall into the writing of a checkpoint. Prints what
happened as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from maskbench import runner
from maskbench.care import Care
from maskbench.events import Silent
from maskbench.results import Store
from maskbench.spec import Request


def start(store: Path, pictures: str, strategy: str) -> int:
    """The run in a process of its own; its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        request = Request(
            strategy=strategy, data=f"folder:{pictures}", budget="30ep", batch=8, draws=1
        )
        runner.run(request, Store(store), Silent(), care=Care(every=0.0))
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def main(store: Path, pictures: str, kills: int, seed: int, strategy: str = "clmae-fast") -> None:
    """Kill, a new run whenever one has come to its end; then let all end."""
    torch.set_num_threads(1)
    stream = random.Random(seed)
    begun = time.monotonic()
    assert os.waitpid(start(store / "whole", pictures, strategy), 0)[1] == 0
    whole = time.monotonic() - begun
    done = {"killed": 0, "while_writing": 0, "runs": 1}
    while done["killed"] < kills:
        place = store / f"killed-{done['runs']}"
        child = start(place, pictures, strategy)
        time.sleep(stream.uniform(0.05, 0.3) * whole)
        if os.waitpid(child, os.WNOHANG) == (0, 0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            done["killed"] += 1
        done["while_writing"] += bool(list(place.glob("*/checkpoints/.*.tmp")))
        done["runs"] += bool(list(place.glob("*/encoder.safetensors")))  # this one is over
    for run in range(1, done["runs"] + 1):
        child = start(store / f"killed-{run}", pictures, strategy)
        assert os.waitpid(child, 0)[1] == 0
    print(json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
