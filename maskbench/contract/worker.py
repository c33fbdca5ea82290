"""One of two processes: ``python -m maskbench.contract.worker RANK FOLDER NAME...``.

They meet through files in the folder; no port is chosen.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from maskbench import registry
from maskbench.contract.compare import digests, snapshot
from maskbench.contract.jobs import make_job
from maskbench.contract.replicas import PATIENCE_S, PROCESSES, End
from maskbench.contract.subject import STEPS, run
from maskbench.errors import MaskbenchError


def _train(rank: int, name: str, meeting: Path) -> End:
    """One strategy in one process; a group of its own, so that a failure spoils no other."""
    try:
        distributed.init_process_group(
            "gloo",
            init_method=meeting.absolute().as_uri(),
            rank=rank,
            world_size=PROCESSES,
            timeout=timedelta(seconds=PATIENCE_S),
        )
        strategy = registry.load(name)()
        job = make_job(strategy, budget=f"{STEPS}step", share=(rank, PROCESSES))
        start = digests(job.model.state_dict())
        run(job)
        return End(start, digests(job.model.state_dict()), digests(snapshot(job)))
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).removesuffix(". --debug shows where.").split())
        words = text if isinstance(error, MaskbenchError) else f"{type(error).__name__}: {text}"
        return End(error=words[:400])
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def main(rank: int, folder: Path, names: Sequence[str]) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with (folder / f"{rank}.jsonl").open("w", encoding="utf-8") as out:
        for number, name in enumerate(names):
            end = _train(rank, name, folder / f"meeting-{number}")
            out.write(json.dumps({"name": name, **asdict(end)}) + "\n")
            out.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
