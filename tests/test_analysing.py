"""``maskbench masks``, end to end: from a run's own moments to tables; every gap by its name."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import cli
from PIL import Image
from safetensors.numpy import load_file

from maskbench import registry, studying
from maskbench.data import open_data
from maskbench.data.scenes import generate
from maskbench.events import Silent
from maskbench.moments import Rebuilt
from maskbench.report.tape import read_masks
from maskbench.results import Store, read_record

STUDIES = True
COUNT = 48
FEW = ("clmae-fast",)
STATEFUL = ("random", "clmae", "clmae-fast", "hpm", "attmask", "amt", "adamae", "adios", "ratio")
COMPOSED = ["prototypes+clmae-fast"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat folder of scenes (so that nothing is probed), and their objects beside it."""
    root = tmp_path_factory.mktemp("analysing")
    drawn = generate(COUNT, "train")
    for folder in ("images", "truth"):
        (root / folder).mkdir()
    for n, (image, known) in enumerate(zip(drawn.images, drawn.objects, strict=True)):
        Image.fromarray(image).save(root / "images" / f"{n:02}.png")
        Image.fromarray(known.astype(np.uint8)).save(root / "truth" / f"{n:02}.png")
    (root / "truth" / "07.png").unlink()
    return root


def make_run(pictures: Path, out: Path, strategy: str, *more: str) -> Path:
    words = ["run", "--strategy", strategy, "--budget", "12step", "--batch", "8", "--out", str(out)]
    before = set(out.glob("*/record.json"))
    with pytest.MonkeyPatch.context() as patch:
        assert cli(patch, *words, "--data", f"folder:{pictures / 'images'}", *more) == 0
    (record,) = set(out.glob("*/record.json")) - before
    return record.parent


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(pictures, tmp_path_factory.mktemp("analysing") / "runs", "clmae-fast")


class Asks:
    """Says what ``maskbench masks`` said, as JSON; or the error, for another exit code."""

    def __init__(self, pictures: Path, patch: Any, capsys: Any) -> None:
        self.images, self.patch, self.capsys = pictures / "images", patch, capsys

    def __call__(self, run: Path, *more: str, code: int = 0, data: bool = True) -> Any:
        words = ["masks", str(run), "--runs", str(run.parent), "--json", *more]
        words += ["--data", f"folder:{self.images}"] if data else []
        self.capsys.readouterr()
        found = cli(self.patch, *words)
        said = self.capsys.readouterr()
        assert found == code, said.err
        return " ".join(said.err.split()) if code else {**json.loads(said.out), "told": said.err}


@pytest.fixture
def ask(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Asks:
    return Asks(pictures, monkeypatch, capsys)


def auc(found: Any, source: str) -> list[float]:
    rows = found["tables"]["saliency"]
    return [r["value"] for r in rows if (r["source"], r["metric"]) == (source, "auc")]


def test_every_run_studies_its_masks(run: Path) -> None:
    found = json.loads((run / "analysis" / "masks.json").read_text())
    assert (found["run"], found["images"], found["reference"]) == (run.name, COUNT, "own")
    moments = len(found["moments"])
    assert moments == 9
    for source in ("spectral residual", "edges", "centre", "difficulty", "attention"):
        assert len(auc(found, source)) == moments
    missing = [r for r in found["tables"]["saliency"] if r["source"] == "objects"]
    assert {row["value"] for row in missing} == {None}
    assert "48 of 48 images have no such map" in missing[0]["note"]
    for name, rows in found["tables"].items():
        with (run / "analysis" / f"{name}.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == len(rows) > 0
    values = load_file(run / "analysis" / "values.safetensors")["values"]
    assert values.shape == (len(found["tables"]["saliency"]), COUNT)
    means = [r["value"] for r in found["tables"]["saliency"]]
    own = [n for n, value in enumerate(means) if value is not None]
    np.testing.assert_allclose(values[own].mean(1), [means[n] for n in own], atol=1e-5)
    for picture in ("saliency.svg", "geometry.svg", "drift.svg", "frequency.png", "masks.png"):
        assert (run / "analysis" / picture).stat().st_size > 1000


def test_drift_has_lambda_gap_and_turnover(run: Path) -> None:
    rows = json.loads((run / "analysis" / "masks.json").read_text())["tables"]["drift"]
    course = {
        name: [row["value"] for row in rows if row["quantity"] == name]
        for name in ("lambda", "difficulty gap", "difficulty frozen gap", "turnover", "map drift")
    }
    assert course["lambda"][0] == pytest.approx(1, abs=0.1)
    assert course["lambda"][-1] == pytest.approx(-1, abs=0.1)
    recorded = [gap["gap"] for gap in read_record(run)["masks"]["difficulty"]]
    assert course["difficulty gap"] == pytest.approx(recorded)
    assert len(course["turnover"]) == 8
    assert min(course["turnover"]) > 0.3  # sampled anew at every look


def rebuilt_masks(run: Path, pictures: Path) -> tuple[Any, Any]:
    """The masks that a run recorded, and those of its moments: hidden, and the second draw."""
    store, tape = Store(run.parent), read_masks(run)
    images = open_data(f"folder:{pictures / 'images'}", 32, run.parent / "data", 0.01, Silent())
    rebuilt = Rebuilt(
        run, read_record(run), images, store, device="cpu", strategy=None, progress=Silent()
    )
    states = list(rebuilt.states())
    assert len(states) == len(tape.steps)
    seen = []
    for state in states:
        moment = rebuilt.load(state)
        seen.append(rebuilt.see(tape.positions, moment))
    return tape, seen


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FEW else pytest.mark.slow)
        for name in [one.name for one in registry.entries() if one.name in STATEFUL] + COMPOSED
    ],
)
def test_moments_give_the_masks_that_the_run_saw(name: str, pictures: Path, tmp_path: Path) -> None:
    """A strategy, brought back from its files alone, hides the same patches at every look."""
    own = make_run(pictures, tmp_path / "runs", name)
    tape, seen = rebuilt_masks(own, pictures)
    drawn = name not in ("clmae", "adios", "attmask")  # these decide without chance
    assert not drawn or (tape.again != tape.hidden).any()
    for n, one in enumerate(seen):
        np.testing.assert_array_equal(one.hidden.reshape(tape.hidden[n].shape), tape.hidden[n])
        np.testing.assert_array_equal(one.again.reshape(tape.hidden[n].shape), tape.again[n])
        np.testing.assert_allclose(one.losses, tape.losses[n], rtol=1e-5)
        if tape.keep is not None:
            np.testing.assert_array_equal(one.keep, tape.keep[n])
    assert (tape.keep is not None) == (name == "clmae" or registry.load(name).keep.__qualname__
                                       .startswith("LearnedMasking"))  # fmt: skip


@pytest.mark.slow
def test_masks_of_an_object_data_set(run: Path, ask: Asks, pictures: Path) -> None:
    """With ground truth the objects are judged; the image without any is left out by name."""
    found = ask(run, "--truth", str(pictures / "truth"), "--images", str(COUNT))
    content = found["found"]
    assert len(auc(content, "objects")) == len(auc(content, "contours")) == 9
    rows = content["tables"]["saliency"]
    covered = [r for r in rows if (r["source"], r["metric"]) == ("objects", "coverage")]
    assert {row["images"] for row in covered} == {COUNT - 1}
    assert "1 of 48 images have no such map" in covered[0]["note"]
    assert "07.png" in found["told"]
    again = ask(run, "--truth", str(pictures / "truth"), "--images", str(COUNT))
    assert again["reused"]
    assert again["found"] == content
    plain = ask(run, "--images", str(COUNT))
    assert not plain["reused"]
    np.testing.assert_allclose(auc(plain["found"], "edges"), auc(content, "edges"))
    own = json.loads((run / "analysis" / "masks.json").read_text())
    np.testing.assert_allclose(auc(plain["found"], "edges"), auc(own, "edges"))


@pytest.mark.slow
def test_fewer_images_and_another_reference(
    run: Path, ask: Asks, pictures: Path, tmp_path: Path
) -> None:
    few = ask(run, "--images", "20")["found"]
    assert few["images"] == 20
    other = make_run(pictures, run.parent, "random", "--seed", "5")
    judged = ask(run, "--reference", other.name)["found"]
    assert judged["reference"] == other.name
    own = ask(run, "--images", str(COUNT))["found"]
    assert auc(judged, "edges") == pytest.approx(auc(own, "edges"))
    assert auc(judged, "difficulty") != auc(own, "difficulty")
    # a plain folder is no run of a flat store: too few images are named
    assert "choose at least 2" in ask(run, "--images", "1", code=2)
    many = ask(run, "--images", "1000", "--out", str(tmp_path / "many"))
    assert many["found"]["images"] == COUNT
    assert "has 48 images to mask, not 1,000" in many["told"]


@pytest.mark.slow
def test_a_run_without_moments(pictures: Path, ask: Asks, tmp_path: Path) -> None:
    own = make_run(pictures, tmp_path / "runs", "random", "--no-moments")
    assert not (own / "moments").exists()
    found = ask(own, data=False)  # what it studied itself
    assert found["reused"]
    told = ask(own, "--images", "256", "--out", str(tmp_path / "there"))
    sources = {r["source"]: r for r in told["found"]["tables"]["saliency"]}
    assert sources["difficulty"]["value"] is None
    assert "kept no moments" in told["told"]
    assert len(auc(told["found"], "edges")) == 9
    why = ask(own, "--images", "20", code=74)
    assert "kept no moments" in why
    assert "only the masks of 48 of its own images" in why
    (own / "masks.safetensors").unlink()
    (own / "analysis" / "masks.json").unlink()
    why = ask(own, "--images", "256", code=74)
    assert "no readable masks" in why


@pytest.mark.slow
def test_a_damaged_moment_is_named_and_the_rest_is_studied(
    pictures: Path, ask: Asks, tmp_path: Path
) -> None:
    own = make_run(pictures, tmp_path / "runs", "random")
    broken = sorted((own / "moments").glob("*.pt"))[3]
    broken.write_bytes(broken.read_bytes()[:-100])
    found = ask(own, "--images", "30")
    assert broken.name in found["told"].replace(" ", "").replace("\n", "")
    assert len(found["found"]["moments"]) == 8


MINE = (
    "from maskbench.strategy import Mask, MaskStrategy\n\n\nclass Mine(MaskStrategy):\n"
    "    def mask(self, batch, context):\n"
    "        return Mask.from_scores(context.uniform('mask', batch), context.grid)\n"
)


@pytest.mark.slow
def test_a_file_of_ones_own(pictures: Path, ask: Asks, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    own = make_run(pictures, tmp_path / "runs", f"{file}:Mine")
    assert len(auc(ask(own, "--images", "20", "--strategy", f"{file}:Mine")["found"], "edges")) == 9
    why = ask(own, "--images", "21", "--strategy", "random", code=2)
    assert "was run with mine.py:Mine, not random" in why
    file.write_text(MINE + "\n# edited\n")
    why = ask(own, "--images", "21", "--strategy", f"{file}:Mine", code=2)
    assert "has changed since" in why


@pytest.mark.slow
def test_truth_without_its_images_is_refused(run: Path, ask: Asks, pictures: Path) -> None:
    why = ask(run, "--truth", str(pictures / "truth"), "--data", "scenes", code=2, data=False)
    assert "--data folder:PATH" in why
    empty = pictures / "nothing"
    empty.mkdir(exist_ok=True)
    why = ask(run, "--truth", str(empty), code=4)
    assert ".png" in why
    why = ask(run, "--images", "20", code=2, data=False)
    assert "Give --data" in why


@pytest.mark.slow
def test_answers_belong_to_one_run_in_one_state(
    run: Path, ask: Asks, pictures: Path, tmp_path: Path
) -> None:
    """The same folder and question for another run is another answer; so is a run gone on with."""
    other = make_run(pictures, run.parent, "random", "--seed", "7")
    first = ask(run, "--images", "24", "--out", str(tmp_path / "x"))
    second = ask(other, "--images", "24", "--out", str(tmp_path / "x"))
    assert (first["found"]["run"], second["found"]["run"]) == (run.name, other.name)
    assert not second["reused"]
    lost = sorted((other / "moments").glob("step-*"))[-2:]
    for path in lost:
        path.rename(tmp_path / path.name)
    third = ask(other, "--images", "24", "--out", str(tmp_path / "x"))
    assert not third["reused"]
    assert "1 of 9 moments are not there" in third["told"]
    assert "no difficulty and no attention" in " ".join(third["told"].split())
    assert third["found"]["reference"] is None


@pytest.mark.slow
def test_a_trained_run_is_not_lost_for_its_study(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(studying, "study", fail)
    record = read_record(make_run(pictures, tmp_path / "runs", "random"))
    assert record["status"] == "finished"
    assert record["masks"]["not_studied"] == "RuntimeError: out of memory"
