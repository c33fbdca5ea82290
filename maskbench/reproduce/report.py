"""What a reproduction leaves behind: verdict.json, numbers.csv, figure.svg and figure.png."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maskbench.errors import StoreError
from maskbench.files import replacing, unwritten
from maskbench.findings import table
from maskbench.reproduce.drawing import figures
from maskbench.reproduce.reading import Bench, Done, cost, tidy
from maskbench.reproduce.verdict import Finding, finding, overall, together
from maskbench.results import write_json

SCHEMA = 1
VERDICT, NUMBERS = "verdict.json", "numbers.csv"


@dataclass(frozen=True)
class Outcome:
    """What came of a benchmark.

    Args:
        name: Of the file.
        bench: Its runs.
        findings: One per comparison.
        verdict: Of the claim.
        why: In clauses.
    """

    name: str
    bench: Bench
    findings: list[Finding]
    verdict: str
    why: str

    @classmethod
    def of(cls, name: str, bench: Bench) -> "Outcome":
        """Judge a benchmark's runs."""
        found = []
        for one in bench.asked.compare:
            quantity, difference = bench.difference(one)
            what = one.what if quantity == one.quantity else f"{one.what} (by {quantity} instead)"
            found.append(
                finding(what, quantity, difference, smallest=one.smallest, decisive=one.decisive)
            )
        findings = together(found)
        return cls(name, bench, findings, *overall(findings))

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Runs that are missing, and why."""
        return [
            {"arm": arm, "seed": seed, "why": run}
            for (arm, seed), run in self.bench.runs.items()
            if isinstance(run, str)
        ]

    def plain(self) -> dict[str, Any]:
        """The document: the same bytes for the same runs."""
        asked = self.bench.asked
        runs = [
            {"arm": arm, "seed": seed, "run": run.folder.name}
            for (arm, seed), run in self.bench.runs.items()
            if isinstance(run, Done)
        ]
        return {
            "schema": SCHEMA,
            "name": self.name,
            "question": asked.question,
            "claim": asked.claim,
            "source": asked.source,
            "expected": asked.expected,
            "asked": asked.model_dump(mode="json", include={"runs", "arms", "baseline", "compare"}),
            "verdict": self.verdict,
            "why": self.why,
            "findings": [asdict(one) for one in self.findings],
            "runs": runs,
            "failed": self.failed,
            "seconds": cost(self.bench.runs),
        }


def write(outcome: Outcome, folder: Path) -> None:
    """Write everything; files of the same names are replaced, the verdict last.

    Raises:
        StoreError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(unwritten(folder, error)) from error
    with replacing(folder / NUMBERS) as file:
        file.write(table(tidy(outcome.bench)).encode())
    drawn = figures(outcome.bench)
    for kind in ("svg", "png"):
        path = folder / f"figure.{kind}"
        if kind in drawn:
            with replacing(path) as file:
                file.write(drawn[kind])
        else:
            path.unlink(missing_ok=True)
    write_json(folder / VERDICT, outcome.plain())
