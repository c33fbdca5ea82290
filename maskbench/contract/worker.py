"""One of some processes: ``python -m maskbench.contract.worker RANK FOLDER TEAM... NAME...``.

The team is the fields of ``Team``. They meet through files in the folder; no port is chosen.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from maskbench import registry, seeds
from maskbench.contract.compare import digests, distances, leaves, snapshot
from maskbench.contract.jobs import make_job
from maskbench.contract.replicas import PATIENCE_S, End, Team
from maskbench.contract.subject import run
from maskbench.errors import MaskbenchError
from maskbench.job import Job

EPS = torch.finfo(torch.float32).eps
LOOKS = 4
"""Runs from nudged weights, at most."""


def _train(rank: int, team: Team, name: str, meeting: Path) -> End:
    """One strategy in one process; a group of its own, so that a failure spoils no other."""
    try:
        distributed.init_process_group(
            "gloo",
            init_method=meeting.absolute().as_uri(),
            rank=rank,
            world_size=team.processes,
            timeout=timedelta(seconds=PATIENCE_S),
        )
        job = _job(team, name)
        start = digests(job.model.state_dict())
        state = _trained(job)
        end = digests(job.model.state_dict())
        distributed.destroy_process_group()
        alone = _from_one(team, name, state) if rank == 0 else {}
        return End(start, end, digests(state), alone)
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).removesuffix(". --debug shows where.").split())
        words = text if isinstance(error, MaskbenchError) else f"{type(error).__name__}: {text}"
        return End(error=words[:400])
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _job(team: Team, name: str) -> Job:
    return make_job(registry.load(name)(), budget=team.budget, batch=team.batch)


def _trained(job: Job) -> dict[str, Any]:
    """Train; the model's values, the strategy's state, its ledger, and all that was logged."""
    rows: list[Mapping[str, Any]] = []
    run(job, log=rows.append)
    lines = {name: [row[name] for row in rows if name in row] for name in rows[-1]}
    logged = {name: torch.tensor(values, dtype=torch.float64) for name, values in lines.items()}
    return {**snapshot(job), "spent": dict(job.strategy.spent()), "logged": logged}


def _from_one(team: Team, name: str, state: Any) -> dict[str, tuple[float, float]]:
    """How far a state is from that of the same run in one process, and how far rounding moves that.

    Some values are not to be compared to 1e-5 by anybody: the gradient of a bias that no output
    depends on (of attention's keys, or of scores that are only ranked) is rounding noise around
    zero, and Adam makes full steps of it. So the run in one process is repeated from weights whose
    last bit is changed, which shows how far each value follows such noise; no less, in half
    precision, than one unit of its last place. Two walks of one number may end side by side by
    chance: what seems further than rounding is nudged again, otherwise, a few times.
    """
    one = _trained(_job(team, name))
    apart, values = distances(one, state), leaves(one)
    noise = {path: torch.finfo(values[path].dtype).eps for path in apart}
    for look in range(LOOKS):
        moved = distances(one, _trained(_nudged(_job(team, name), look)))
        noise = {path: max(noise[path], moved[path]) for path in apart}
        alone = {path: (apart[path], noise[path]) for path in apart}
        if not End(alone=alone).further_than_rounding:
            break
    return alone


def _nudged(job: Job, look: int) -> Job:
    """The job from weights whose last bit is changed."""
    with torch.no_grad():
        for value in job.model.parameters():
            coin = torch.rand(value.shape, generator=seeds.generator(look, "last bit")) < 0.5
            value.mul_(torch.where(coin, 1 - EPS, 1 + EPS))
    return job


def main(rank: int, folder: Path, team: Team, names: Sequence[str]) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with (folder / f"{rank}.jsonl").open("w", encoding="utf-8") as out:
        for number, name in enumerate(names):
            end = _train(rank, team, name, folder / f"meeting-{number}")
            out.write(json.dumps({"name": name, **asdict(end)}) + "\n")
            out.flush()


if __name__ == "__main__":
    _, number, place, processes, batch, budget, *asked = sys.argv
    main(int(number), Path(place), Team(int(processes), int(batch), budget), asked)
