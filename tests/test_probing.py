"""``maskbench probe``: asked once, kept, and refused where it cannot be."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import cli
from test_foreign import saved, vit
from test_resume import drawn

from maskbench.probes import deep
from maskbench.probes.supervised import supervised
from maskbench.record import probes_of
from maskbench.results import brief, read_record


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("probing"))


@pytest.fixture(scope="module")
def store(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one finished run, on the pictures."""
    out = tmp_path_factory.mktemp("probing") / "runs"
    words = ["run", "--strategy", "random", "--budget", "4step", "--batch", "8", "--draws", "1"]
    with pytest.MonkeyPatch.context() as patch:
        assert cli(patch, *words, "--data", f"folder:{pictures}", "--out", str(out)) == 0
    return out


def run_of(store: Path) -> Path:
    (record,) = store.glob("*/record.json")
    return record.parent


class Asks:
    """Says what ``maskbench probe RUN --data folder:...`` said, as JSON."""

    def __init__(self, store: Path, data: Path, patch: Any, capsys: Any) -> None:
        self.store, self.data, self.patch, self.capsys = store, data, patch, capsys

    def __call__(self, *more: str, code: int = 0) -> Any:
        words = ["probe", run_of(self.store).name, "--runs", str(self.store), "--json"]
        found = cli(self.patch, *words, "--data", f"folder:{self.data}", "--draws", "1", *more)
        said = self.capsys.readouterr()
        assert found == code, said.err
        return " ".join(said.err.split()) if code else json.loads(said.out)


@pytest.fixture
def ask(
    store: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Asks:
    return Asks(store, pictures, monkeypatch, capsys)


def test_a_run_on_its_own_data_gives_its_own_numbers(ask: Asks, store: Path) -> None:
    told = ask()
    record, found = read_record(run_of(store)), told["found"]
    assert not told["reused"]
    assert found["rows"] == record["probes"]
    assert probes_of(found).asked.pool == found["asked"]["pool"]  # compare reads such files
    assert found["controls"] == record["controls"]
    assert found["probing"] == record["probing"]
    assert found["encoder"]["prior"] == ""
    assert found["chance"] == 1 / len(record["data"]["classes"])
    assert Path(told["file"]).parent == run_of(store) / "probes"


def test_a_run_is_known_by_its_primary_feature_alone(store: Path) -> None:
    record = read_record(run_of(store))
    found = {
        feature: [
            row["accuracy"]
            for row in record["probes"]
            if (row["probe"], row["shots"], row["feature"]) == ("logreg", 16, feature)
        ]
        for feature in ("patchmean", "cls", "cls+patchmean")
    }
    assert all(len(own) == 1 for own in found.values())
    assert brief(record)["logreg@16"] == found["patchmean"][0]
    rows = [{**row, "accuracy": float(row["feature"] == "cls")} for row in record["probes"]]
    assert brief({**record, "probes": rows})["logreg@16"] == 0
    assert brief({**record, "probes": rows})["knn20"] == 0


def test_what_was_found_is_kept_and_not_mixed_up(ask: Asks) -> None:
    first, again, other = ask(), ask(), ask("--pool", "17")
    assert again["reused"]
    assert again["found"] == first["found"]
    assert other["file"] != first["file"]
    path = Path(first["file"])
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert "cannot be read" in ask(code=4)
    path.write_bytes(whole)


def test_the_supervised_control_and_the_whole_pool(ask: Asks) -> None:
    found = ask("--supervised", "--probes", "frozen,logreg-full")["found"]
    kinds = {row["feature"] for row in found["controls"]}
    assert kinds == {"untrained", "pixels", "supervised"}
    full = {row["probe"]: row for row in found["rows"] if row["probe"].startswith("logreg-full")}
    assert sorted(full) == ["logreg-full", "logreg-full-C/10", "logreg-full-Cx10"]
    assert full["logreg-full"]["n_train"] == found["data"]["pool"]
    assert full["logreg-full"]["metric"] == "logreg-full/C300/patchmean/last"


def test_the_supervised_control_sees_no_image_of_the_test_split(
    ask: Asks, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "doubled"
    shutil.copytree(pictures, other)
    shutil.copy(other / "test" / "red" / "0.png", other / "train" / "red" / "double.png")
    seen: list[int] = []

    def counting(shape: Any, split: Any, *rest: Any) -> Any:
        seen.append(len(split))
        return supervised(shape, split, *rest)

    monkeypatch.setattr("maskbench.probing.supervised", counting)
    ask.data = other
    found = ask("--supervised")["found"]
    assert found["probing"]["duplicates"] == 1
    assert seen == [32]
    assert found["data"]["train"] == 33


def test_trained_probes_take_seed_and_epochs(ask: Asks) -> None:
    one, other = (
        ask("--probes", "linear-lars", "--epochs", "2", "--seed", seed)["found"]["rows"]
        for seed in ("0", "1")
    )
    (row,), (changed,) = one, other
    assert row["settings"]["epochs"] == 2
    assert row["nll"] != changed["nll"]


@pytest.mark.slow
def test_all_probes_and_the_protocol_of_the_clmae_paper(ask: Asks) -> None:
    names = ",".join(deep.KINDS)
    found = ask("--probes", names, "--epochs", "2")["found"]
    assert {row["probe"] for row in found["rows"]} >= set(deep.KINDS)
    protocol = ask("--protocol", "clmae", "--epochs", "2")["found"]["rows"]
    assert {row["probe"] for row in protocol} == {"clmae-protocol"}
    assert {row["draw"] for row in protocol} == {0, 1, 2}
    assert {row["feature"] for row in protocol} == {"cls"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--probes", "atentive"], 2, "'attentive'"),
        (["--protocol", "mae"], 2, "unknown protocol"),
        (["--pool", "0"], 2, "--pool 0 is out of range"),
        (["--side", "0"], 2, "--side 0 is out of range"),
        (["--draws", "1001"], 2, "choose 1 to 1,000"),
        (["--device", "tpu"], 2, "unknown device"),
        (["--supervised", "--side", "32"], 2, "without --side"),
        (["--supervised", "--probes", "logreg-full"], 2, "name frozen"),
        (["--data", "scene"], 2, "scenes"),
    ],
)
def test_what_cannot_be_asked_is_refused(ask: Asks, words: list[str], code: int, said: str) -> None:
    assert said in ask(*words, code=code)


def test_a_checkpoint_of_others_is_probed_beside_its_own_start(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where its input is larger than the images; what did not match is said."""
    text = saved(tmp_path, {"model": {**vit(40).state_dict(), "mask_token": torch.ones(1, 1, 2)}})
    words = ["probe", text, "--data", f"folder:{pictures}", "--draws", "1", "--json"]
    places = ["--out", str(tmp_path / "found"), "--runs", str(tmp_path / "runs")]
    assert cli(monkeypatch, *words, *places) == 4
    assert "--enlarge-from" in capsys.readouterr().err
    assert cli(monkeypatch, *words, *places, "--enlarge-from", "32") == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert {row["feature"] for row in found["controls"]} == {"untrained", "pixels"}
    assert found["encoder"]["notes"] == ["theirs.pth: not used: decoder (1)"]
    assert "trained outside" in found["encoder"]["prior"]
    assert cli(monkeypatch, *words, *places, "--enlarge-from", "32", "--supervised") == 2
    assert "needs a run" in " ".join(capsys.readouterr().err.split())


def test_data_of_ones_own_has_to_be_named(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(monkeypatch, "probe", run_of(store).name, "--runs", str(store)) == 2
    assert "was trained on folder:pictures" in " ".join(capsys.readouterr().err.split())


def test_others_need_their_file_and_have_no_supervised_control(
    store: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli(monkeypatch, "probe", "mae:nowhere.pth", "--runs", str(store)) == 2
    assert "nowhere.pth" in capsys.readouterr().err
