"""Learning rates are chosen on images that are never scored, by one grid, and the count is kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_budget_runs import Go, go, out, pictures, run

from maskbench.contract import noise_split
from maskbench.data.development import Rows, development
from maskbench.data.source import Images, Split
from maskbench.errors import OK, USAGE, DataError
from maskbench.results import Store
from maskbench.spec import RunSettings
from maskbench.tuning import file_of

__all__ = ["go", "out", "pictures"]


def labelled(count: int, classes: int = 4) -> Images:
    train, test = noise_split(count), noise_split(10, seed=1)
    labels = np.arange(count) % classes
    names = tuple(f"c{i}" for i in range(classes))
    with_labels = Split(train.images, labels, train.ids)
    return Images("noise", names, with_labels, test, "mark", {})


def test_a_fifth_of_every_class_stands_in_for_the_test_split() -> None:
    images = labelled(200)
    found = development(images)
    assert found.test
    assert found.test.labels is not None
    assert found.train.labels is not None
    assert np.bincount(found.test.labels).tolist() == [10] * 4
    assert np.bincount(found.train.labels).tolist() == [40] * 4
    assert not set(found.train.ids) & set(found.test.ids)
    assert set(found.train.ids) | set(found.test.ids) == set(images.train.ids)
    assert found.fingerprint != images.fingerprint
    where = {name: i for i, name in enumerate(images.train.ids)}
    for split in (found.train, found.test):
        rows = [where[name] for name in split.ids]
        assert (np.asarray(split.images) == images.train.images[rows]).all()


def test_the_choice_depends_on_ids_alone() -> None:
    images = labelled(100)
    order = np.random.default_rng(0).permutation(100)
    mixed = development(
        Images("noise", images.classes, images.train.take(order), images.test, "mark", {})
    )
    plain = development(images)
    assert mixed.test
    assert plain.test
    assert set(mixed.test.ids) == set(plain.test.ids)


def test_rows_are_read_when_asked_for() -> None:
    array = np.arange(60, dtype=np.uint8).reshape(10, 2, 3)
    rows = Rows(array, np.array([7, 2, 5]))
    assert (len(rows), rows.shape) == (3, (3, 2, 3))
    assert rows.dtype == np.uint8
    assert (rows[1] == array[2]).all()
    assert (rows[np.array([2, 0])] == array[[5, 7]]).all()
    assert (np.asarray(rows) == array[[7, 2, 5]]).all()
    assert (rows[1:, :, 1:2] == array[[2, 5], :, 1:2]).all()


def test_tuning_needs_classes_and_two_images_of_each() -> None:
    images = labelled(8)
    flat = Images("flat", (), noise_split(5), None, "mark", {})
    with pytest.raises(DataError, match="no classes"):
        development(flat)
    few = Images("few", (*images.classes, "rare"), images.train, images.test, "mark", {})
    with pytest.raises(DataError, match="'rare' has 0"):
        development(few)


@pytest.mark.slow
def test_tune_then_run(go: Go, out: Path) -> None:
    words = ("--strategy", "random", "--budget", "1ep")
    code, text = go(*words, "--lr", "tuned")
    assert code == USAGE
    assert "'maskbench tune' with the same options" in text
    code, found = go(*words, "--json", verb="tune")
    assert code == OK
    assert [trial["factor"] for trial in found["trials"]] == [0.5, 1, 2]
    assert [trial["base_lr"] for trial in found["trials"]] == [1.6e-2, 3.2e-2, 6.4e-2]
    best = max(found["trials"], key=lambda trial: (trial["accuracy"], -trial["factor"]))
    assert found["base_lr"] == best["base_lr"]
    trials = [json.loads(p.read_text()) for p in sorted((out / "tuning").glob("*/record.json"))]
    assert len(trials) == 3
    for trial in trials:
        assert trial["settings"]["scored_on"] == "development"
        assert trial["ledger"]["images"] == 40  # as many as the run, from 32 different ones
        assert (trial["data"]["train"], trial["data"]["test"]) == (32, 8)
    record = run(go, *words, "--lr", "tuned")
    assert record["settings"]["base_lr"] == found["base_lr"]
    assert record["settings"]["lr_trials"] == 3
    assert (record["data"]["train"], record["data"]["test"]) == (40, 20)
    other = run(go, *words, "--lr", "tuned", "--seed", "1")
    assert other["settings"]["base_lr"] == found["base_lr"]
    assert run(go, *words)["settings"]["lr_trials"] == 0
    code, text = go(*words[:2], "--budget", "2ep", "--lr", "tuned")
    assert code == USAGE


def test_a_trial_is_not_repeated_and_a_tuning_can_be_mended(go: Go, out: Path) -> None:
    words = ("--strategy", "random", "--budget", "1ep")
    _, first = go(*words, "--json", verb="tune")
    before = {path: path.stat().st_mtime_ns for path in (out / "tuning").glob("*/record.json")}
    _, again = go(*words, "--json", verb="tune")
    assert first == again
    assert before == {p: p.stat().st_mtime_ns for p in (out / "tuning").glob("*/record.json")}
    Path(first["file"]).write_text("{")
    code, text = go(*words, "--lr", "tuned")
    assert code == 74
    assert "Delete it, tune again" in text


@pytest.mark.slow
def test_another_centre_adds_to_what_was_tried(go: Go) -> None:
    words = ("--strategy", "grid", "--budget", "1ep")
    _, first = go(*words, "--json", verb="tune")
    _, both = go(*words, "--lr", str(2 * first["trials"][1]["base_lr"]), "--json", verb="tune")
    assert [trial["base_lr"] for trial in both["trials"]] == [1.6e-2, 3.2e-2, 6.4e-2, 12.8e-2]
    best = max(both["trials"], key=lambda trial: (trial["accuracy"], -trial["base_lr"]))
    assert both["base_lr"] == best["base_lr"]
    settings = run(go, *words, "--lr", "tuned")["settings"]
    assert (settings["lr_trials"], settings["base_lr"]) == (4, best["base_lr"])
    assert settings["lr_grid"] == [1.6e-2, 3.2e-2, 6.4e-2, 12.8e-2]


@pytest.mark.slow
def test_trials_know_the_runs_and_the_data_of_their_store(go: Go, out: Path) -> None:
    teacher = run(go, "--strategy", "random", "--budget", "2step")["id"]
    words = ["--strategy", "prototypes", "--set", "prototypes.clusters=4"]
    words += ["--set", f"features=checkpoint:{teacher}"]
    code, found = go(*words, "--budget", "2step", "--json", verb="tune")
    assert code == OK, found
    assert len(found["trials"]) == 3
    assert (out / "data").is_dir()
    assert not (out / "tuning" / "data").exists()


def test_a_rate_is_tuned_for_a_device_and_for_compiled_steps(tmp_path: Path) -> None:
    store = Store(tmp_path)
    given = settings_of("random")
    places = {
        file_of(given.model_copy(update=change), store)
        for change in ({}, {"compile": True}, {"device": "cuda"}, {"seed": 3})
    }
    assert len(places) == 3


def settings_of(strategy: str) -> RunSettings:
    return RunSettings(
        strategy=strategy,
        strategy_settings={},
        strategy_digest="",
        budget="1ep",
        data="scenes",
        data_fingerprint="",
        limit=None,
        max_bad=0.0,
        model="nano",
        hidden=48,
        batch=10,
        base_lr=1e-2,
        seed=0,
        device="cpu",
        precision="fp32",
        compile=False,
        draws=1,
    )


@pytest.mark.slow
def test_a_diverged_trial_counts_and_is_not_chosen(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskbench.model import MaskedAutoencoder
    from maskbench.optim import Schedule

    plain, peaks = MaskedAutoencoder.patch_loss, []
    of = Schedule.of

    def remember(base_lr: float, *rest: Any) -> Schedule:
        peaks.append(base_lr)
        return of(base_lr, *rest)

    def loss(prediction: Any, pixels: Any) -> Any:
        found = plain(prediction, pixels)
        return found * np.nan if peaks[-1] > 0.05 else found

    monkeypatch.setattr(Schedule, "of", remember)
    monkeypatch.setattr(MaskedAutoencoder, "patch_loss", staticmethod(loss))
    code, found = go("--strategy", "block", "--budget", "1ep", "--json", verb="tune")
    assert code == OK
    assert [trial["accuracy"] is None for trial in found["trials"]] == [False, False, True]
    assert found["base_lr"] < 0.05
    code, text = go("--strategy", "block", "--lr", "0.8", "--budget", "1ep", verb="tune")
    assert code == USAGE
    assert "diverged" in text


def test_the_centre_of_the_grid_is_a_number(go: Go) -> None:
    code, text = go("--strategy", "random", "--lr", "tuned", verb="tune")
    assert code == USAGE
    assert "centre of the grid" in text
    assert go("--strategy", "random", "--lr", "high", verb="tune")[0] == USAGE
