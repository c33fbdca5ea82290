"""The contract every strategy keeps: clauses that a test suite and ``maskbench check`` both run.

``check(name)`` judges one strategy by all clauses; each failure says what was expected and seen.
"""

from maskbench.contract.clause import Broken, Clause, Skipped, Verdict
from maskbench.contract.jobs import SMALL, make_job, noise_split
from maskbench.contract.judge import CLAUSES, check, judge
from maskbench.contract.replicas import Pair, pairs
from maskbench.contract.subject import Subject

__all__ = [
    "CLAUSES",
    "SMALL",
    "Broken",
    "Clause",
    "Pair",
    "Skipped",
    "Subject",
    "Verdict",
    "check",
    "judge",
    "make_job",
    "noise_split",
    "pairs",
]
