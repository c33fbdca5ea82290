"""A process that carries out runs of a benchmark, one after the other, as lines on stdin ask.

    python -m maskbench.benchmark.worker STORE

A line is a JSON object: name, request, care, origin and log (a file that takes all that the run
says). So is every answer: name, code (0, or what ``maskbench run`` would exit with) and error. One
process serves many runs, because importing torch takes longer than a small run; should a run take
it down, whoever asked starts another.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from maskbench.care import Care
from maskbench.errors import BUG, OK, MaskbenchError
from maskbench.events import Silent
from maskbench.results import Store
from maskbench.spec import Request


class Written(Silent):
    """Everything worth reading goes to stderr, which is the run's log."""

    def message(self, text: str) -> None:
        """A line."""
        print(text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """The same."""
        self.message(text)


def carried_out(told: dict[str, Any], store: Store) -> dict[str, Any]:
    """A run's answer."""
    from maskbench import runner

    try:
        runner.run(
            Request(**told["request"]),
            store,
            Written(),
            care=Care.read(told["care"]),
            benchmark=told["origin"],
        )
    except MaskbenchError as error:
        traceback.print_exc()
        return {"name": told["name"], "code": error.exit_code, "error": str(error)}
    except (Exception, SystemExit) as error:  # a stranger's strategy may raise anything
        traceback.print_exc()
        return {"name": told["name"], "code": BUG, "error": f"{type(error).__name__}: {error}"}
    return {"name": told["name"], "code": OK, "error": None}


def main() -> None:
    """Serve until stdin ends."""
    store, answers = Store(Path(sys.argv[1])), os.fdopen(os.dup(1), "w", encoding="utf-8")
    for line in sys.stdin:
        told = json.loads(line)
        with Path(told["log"]).open("ab") as log:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        answer = carried_out(told, store)
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()


if __name__ == "__main__":
    main()
