"""Which folder a run gets."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from test_resume import pictures

from maskbench import runner
from maskbench.errors import BusyError
from maskbench.events import Silent
from maskbench.place import created
from maskbench.plan import resolve
from maskbench.results import Store
from maskbench.spec import Request

__all__ = ["pictures"]


def test_whoever_comes_second_gets_the_folder_that_the_first_has_begun(
    tmp_path: Path, pictures: Path
) -> None:
    """Also before there is a record in it, and after the run in it is finished."""
    store = Store(tmp_path / "runs")
    request = Request(
        strategy="random", budget="6step", batch=8, draws=1, data=f"folder:{pictures}"
    )
    settings = resolve(request, store, Silent()).settings
    with ExitStack() as locks:
        folder, finished = created(settings, store, locks, fresh=False)
        assert not finished
        with ExitStack() as others, pytest.raises(BusyError, match=str(os.getpid())):
            created(settings, store, others, fresh=False)
        with ExitStack() as others:
            beside, _ = created(settings, store, others, fresh=True)
            assert beside != folder
            beside_settings = json.loads((beside / "settings.json").read_text())
        assert beside_settings == settings.model_dump(mode="json")
    with ExitStack() as locks:  # killed before it had a record: taken over
        assert created(settings, store, locks, fresh=False) == (beside, False)
    done = runner.run(request, store, Silent())
    assert done.folder == beside
    with ExitStack() as locks:
        assert created(settings, store, locks, fresh=False) == (beside, True)
