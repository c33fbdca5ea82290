"""Clauses on what a strategy leaves alone."""

from typing import Any

from maskbench.contract.clause import Broken
from maskbench.contract.compare import difference, model_now, snapshot
from maskbench.contract.jobs import SMALL, untrained
from maskbench.contract.subject import STEPS, Findings, Subject, copied, mask_of, rehearse, run
from maskbench.job import Job
from maskbench.strategy import Batch


def batch(subject: Subject) -> None:
    """Leaves images, positions and boxes as they are."""
    _unless_found(subject, "batch")


def model(subject: Subject) -> None:
    """Moves its own tensors only, and the loop the model's."""
    _unless_found(subject, "model")


def _unless_found(subject: Subject, clause: str) -> None:
    if subject.findings is None:
        subject.findings = _watched(subject)
    if clause in subject.findings:
        raise Broken(*subject.findings[clause])


def _watched(subject: Subject) -> Findings:
    """Train step by step and look at everything after every call."""
    job, found = subject.job(), Findings()
    joint = {id(parameter) for parameter in job.strategy.joint_parameters()}
    foreign = joint - {id(parameter) for parameter in job.strategy.parameters()}
    if foreign:
        wanted = "joint_parameters to be parameters of the strategy"
        found["model"] = (wanted, f"{len(foreign)} are not")
    changed = difference(untrained(SMALL, 0).state_dict(), job.model.state_dict())
    if changed:
        found["model"] = ("setup to leave the model's values alone", changed)
    last = {"model": model_now(job)}
    for step in range(STEPS):
        given = job.batch(step)
        whole = vars(copied(given))

        def watch(call: str, given: Batch = given, whole: dict[str, Any] = whole) -> None:
            changed = difference(whole, vars(given))
            if changed:
                wanted = f"{call} to leave the batch as it is"
                found.setdefault("batch", (wanted, f"batch.{changed}"))
            now, before = model_now(job), last["model"]
            last["model"] = now
            if call == "extra_loss":
                last["strategy"] = _own(job, joint)
            if call == "main step":
                wanted = "the main optimiser to move only the model and joint_parameters"
                before, now = last["strategy"], _own(job, joint)
            else:
                wanted = f"{call} to leave the model's values and gradients alone"
            changed = difference(before, now)
            if changed:
                found.setdefault("model", (wanted, changed))

        rehearse(job, step, given, watch)
    return found


def _own(job: Job, joint: set[int]) -> dict[str, Any]:
    """A copy of the strategy's state without what the main optimiser may move."""
    shared = {
        name
        for name, value in job.strategy.named_parameters(remove_duplicate=False)
        if id(value) in joint
    }
    state = snapshot(job)["strategy"]
    return {name: value for name, value in state.items() if name not in shared}


def randomness(subject: Subject) -> None:
    """Draws nothing from global random streams."""
    touched = subject.ended.touched
    if touched:
        raise Broken(
            "noise from context.uniform or context.generator only",
            f"a short training moved {' and '.join(touched)}",
        )


def looking(subject: Subject) -> None:
    """A look at masks changes nothing in training."""
    job = subject.job()
    run(job, moment=lambda step: _look(job, step, subject.probe))
    found = difference(subject.ended.state, snapshot(job))
    if found:
        raise Broken("the same end with and without looks at masks between steps", found)


def _look(job: Job, step: int, probe: Batch) -> None:
    mask_of(job, min(step, STEPS - 1), probe, purpose="look")
