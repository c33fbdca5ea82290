"""Files of benchmarks: what they plan, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import cli
from hypothesis import given
from hypothesis import strategies as st

from maskbench import strict
from maskbench.benchmark import reading
from maskbench.benchmark.layout import Place, laid_out, read_plan
from maskbench.benchmark.schema import Benchmark
from maskbench.benchmark.slots import Slots, refuse_unfair, slots
from maskbench.errors import USAGE, StoreError, UsageError
from maskbench.events import Silent
from maskbench.results import Store

WHOLE = """\
title = "Two ways to hide"
question = "Is block better than random?"
expected = "Yes"
cost = "a minute"
budgets = "4step"
seeds = 2

[options]
limit = 300
device = "cpu"

[probes]
draws = 1

[strategies.random]

[strategies.large]
strategy = "block"

[tiers.claim]
seeds = [3, 5, 8]
options = { limit = 400 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """A file with some of its text changed."""

    def write(*changes: tuple[str, str], more: str = "") -> Path:
        text = WHOLE
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path = tmp_path / "two.toml"
        path.write_text(text + more, encoding="utf-8")
        return path

    return write


def test_it_plans_every_arm_and_seed(file: Callable[..., Path]) -> None:
    asked = reading.asked(str(file()))
    assert list(asked.items) == ["random-s0", "large-s0", "random-s1", "large-s1"]
    request = asked.items["large-s1"].request
    assert (request.strategy, request.seed, request.budget) == ("block", 1, "4step")
    assert (request.limit, request.draws, request.device) == (300, 1, "cpu")


def test_a_tier_changes_what_it_names_and_nothing_else(file: Callable[..., Path]) -> None:
    asked = reading.asked(str(file()), "claim")
    assert asked.name == "two@claim"
    assert [item.request.seed for item in asked.items.values()] == [3, 3, 5, 5, 8, 8]
    assert {item.request.limit for item in asked.items.values()} == {400}
    assert {item.request.device for item in asked.items.values()} == {"cpu"}


def test_names_tell_what_differs(file: Callable[..., Path]) -> None:
    path = file(('budgets = "4step"', 'budgets = ["4step", "30Gflop"]'), ("seeds = 2", "seeds = 1"))
    assert list(reading.asked(str(path)).items) == [
        "random-4step-s0", "random-30Gflop-s0", "large-4step-s0", "large-30Gflop-s0",
    ]  # fmt: skip


def test_settings_are_those_of_set(file: Callable[..., Path]) -> None:
    more = '[strategies.late]\nstrategy = "clmae"\nsettings = { last = 0.5 }\nlr = 1e-3\n'
    request = reading.asked(str(file(more=more))).items["late-s0"].request
    assert request.sets == ("last=0.5",)
    assert request.lr == 1e-3


def test_strategies_in_files_lie_beside_the_benchmark(file: Callable[..., Path]) -> None:
    path = file(('strategy = "block"', 'strategy = "mine.py:Mine"'))
    (path.parent / "mine.py").write_text("", encoding="utf-8")
    strategy = reading.asked(str(path)).items["large-s0"].request.strategy
    assert strategy == f"{path.parent.resolve() / 'mine.py'}:Mine"
    assert str(path.parent) not in json.dumps(reading.asked(str(path)).resolved)


TWINS = ["two runs would be called 'r_m-s0'", "for 'r/m' on scenes and 'r m' on scenes"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("seeds = 2", "sedes = 2", ["line 6", "'sedes'", "Did you mean 'seeds'"]),
        ("limit = 300", "limits = 300", ["line 9", "options", "Did you mean 'limit'"]),
        ('strategy = "block"', 'stratgy = "block"', ["line 18", "Did you mean 'strategy'"]),
        ('"block"', '"blok"', ["line 18", "strategies.large", "Did you mean 'block'"]),
        ("seeds = 2", "seeds = 0", ["line 6", "choose 1 to 1000"]),
        ("seeds = 2", "seeds = 2.5", ["line 6", "seeds: write one value of its kind, or a list"]),
        ("strategies.large", 'strategies."r m"]\nstrategy="block"\n[strategies."r/m"', TWINS),
        ("seeds = 2", "seeds = [1, 1]", ["line 6", "twice"]),
        (
            'budgets = "4step"',
            'budgets = "4stp"',
            ["line 5", "budgets", "unknown budget unit 'stp'"],
        ),
        (
            'budgets = "4step"',
            'budgets = "match:x:flop"',
            ["line 5", "match:x:flop", "write the amount"],
        ),
        ('budgets = "4step"', "", ["budgets", "missing"]),
        ("seeds = 2", 'seeds = 2\nmetric = "aulc"', ["line 7", "unknown metric", "fs-aulc"]),
        ("seeds = 2", 'seeds = 2\ndirection = "lower"', ['write direction = "higher"']),
        ("seeds = 2", 'seeds = 2\nbaseline = "rndom"', ["Did you mean 'random'"]),
        ("seeds = 2", 'seeds = 2\ntier = "clam"', ["Did you mean 'claim'"]),
        ("seeds = 2", 'seeds = 2\nmodel = "mikro"', ["Did you mean 'micro'"]),
        ("seeds = 2", 'seeds = 2\ndata = "folders:x"', ["line 7", "folders:x"]),
        ("[probes]", "[probes", ["not TOML", "line 12"]),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(
    file: Callable[..., Path], before: str, after: str, words: list[str]
) -> None:
    path = file((before, after))
    with pytest.raises(UsageError) as caught:
        reading.asked(str(path))
    text = str(caught.value).replace("'higher'", '"higher"')
    assert str(path) in text
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("limit = 300", "hidden = 64", "9: random: hidden 64 is out of range"),
        ("limit = 300", 'lr = "x"', "9: options.lr: input"),
        ("limit = 300", "limit = 2", "9: random: limit 2 is below"),
        ('"block"', '"block"\nsettings = { rol = true }', "19: large: unknown setting 'rol'"),
        ('"block"', '"block"\nsettings.roll = 3', "19: large: settings: roll=3: "),
        ('"block"', '"mine.py:Mine"', "17: large: "),
    ],
)
def test_what_a_run_cannot_be_is_refused_with_its_line(
    file: Callable[..., Path], tmp_path: Path, before: str, after: str, said: str
) -> None:
    path = file((before, after))
    with pytest.raises(UsageError) as caught:
        laid_out(reading.asked(str(path)), Store(tmp_path / "runs"), Silent())
    assert f"{path}, line {said}" in str(caught.value)


def test_no_such_file_or_tier(file: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="Did you mean 'claim'"):
        reading.asked(str(file()), "clam")
    with pytest.raises(UsageError, match=r"Your own: path/to/benchmark\.toml"):
        reading.asked("no-such-name")
    with pytest.raises(UsageError, match="cannot be read"):
        reading.asked("no-such-file.toml")


def test_the_hash_is_of_what_is_asked(file: Callable[..., Path]) -> None:
    first = reading.asked(str(file())).digest
    assert reading.asked(str(file(('cost = "a minute"', 'cost = "an hour"')))).digest == first
    assert reading.asked(str(file(('"Yes"', '"No"')))).digest != first
    assert reading.asked(str(file(("draws = 1", "draws = 2")))).digest != first
    assert reading.asked(str(file()), "claim").digest != first
    spelt_out = file(("seeds = 2", 'seeds = 2\nmodel = "nano"\ndata = ["scenes"]'))
    assert reading.asked(str(spelt_out)).digest == first


@given(st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=3, unique=True))
def test_the_line_of_a_key_is_found_in_any_order(tables: list[str]) -> None:
    text = "".join(f"[a.{name}]\nkey = 1\n\n" for name in tables)
    for at, name in enumerate(tables):
        assert strict.line_of(text, ["a", name, "key"]) == 3 * at + 2
        assert strict.line_of(text, ["a", name, "other"]) == 3 * at + 1


def test_every_shipped_benchmark_is_whole() -> None:
    found = reading.shipped()
    assert {"quickstart", "cifar10-micro", "imagenet-vitb-400ep", "data-free", "budget-views"} <= {
        *found
    }
    for name, path in found.items():
        head = path.read_text(encoding="utf-8")
        for word in ("# Question", "# Expected", "# Cost", "# Command"):
            assert word in head, name
        asked = reading.asked(name)
        assert asked.items
        if not asked.figure:
            for tier in strict.read(path, Benchmark, "").tiers:
                assert reading.asked(name, tier).items


def test_a_plan_is_kept_and_an_edit_is_named(file: Callable[..., Path], tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    first = laid_out(reading.asked(str(file())), store, Silent())
    place = Place(store, "two")
    assert place.plan() is None
    assert place.keep(first) == []
    assert place.keep(first) == []
    later = laid_out(reading.asked(str(file(("draws = 1", "draws = 2")))), store, Silent())
    assert place.keep(later) == ["probes.draws was 1, is 2"]
    assert place.plan() == later
    assert read_plan(place.version(first)) == first


def test_a_plan_that_is_none_is_refused(tmp_path: Path) -> None:
    place = Place(Store(tmp_path), "two")
    place.folder.mkdir(parents=True)
    for text, word in (("{", "not a plan"), ('{"schema": 9}', "schema 9"), ('{"schema": 1}', "")):
        (place.folder / "plan.json").write_text(text, encoding="utf-8")
        with pytest.raises(StoreError, match=r"Move it away; the runs stay") as caught:
            place.plan()
        assert word in str(caught.value)


def test_two_arms_that_are_one_run_are_refused(file: Callable[..., Path], tmp_path: Path) -> None:
    path = file(('strategy = "block"', 'strategy = "random"'))
    with pytest.raises(UsageError, match="random-s0 and large-s0 are one run"):
        laid_out(reading.asked(str(path)), Store(tmp_path), Silent())


def test_a_wrong_setting_names_its_arm(file: Callable[..., Path], tmp_path: Path) -> None:
    path = file(('strategy = "block"', 'strategy = "clmae"\nsettings = { lst = 1 }'))
    with pytest.raises(UsageError, match=r"large: unknown setting 'lst'. Did you mean 'last'"):
        laid_out(reading.asked(str(path)), Store(tmp_path), Silent())


def test_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert slots(None, 1, [], 8) == Slots(({},), shared=False)
    assert slots(4, 1, [], 8).environments[3]["OMP_NUM_THREADS"] == "2"
    assert slots(None, 1, ["0", "3"], 8).environments == (
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "3"},
    )
    packed = slots(None, 2, ["0", "3"], 8)
    assert [one["CUDA_VISIBLE_DEVICES"] for one in packed.environments] == ["0", "3", "0", "3"]
    assert packed.shared
    assert not slots(2, 2, ["0", "3"], 8).shared
    for jobs, pack, gpus in ((0, 1, []), (9, 1, []), (3, 1, ["0", "1"]), (None, 0, ["0"])):
        with pytest.raises(UsageError, match="choose at"):
            slots(jobs, pack, gpus, 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert slots(4, 1, [], 8).environments[0] == {}


def test_seconds_are_not_shared(file: Callable[..., Path], tmp_path: Path) -> None:
    path = file(('budgets = "4step"', 'budgets = "20s"'))
    plan = laid_out(reading.asked(str(path)), Store(tmp_path), Silent())
    refuse_unfair(plan, slots(1, 1, [], 2))
    with pytest.raises(UsageError, match="budget of seconds"):
        refuse_unfair(plan, slots(2, 1, [], 2))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--strategy", "random"], "--strategy is about a single run"),
        (["--nproc", "2"], "--nproc is about a single run"),
        (["--hidden", "3"], "--hidden cannot be given beside a benchmark"),
        (["--only", "random-s0", "--dry-run"], "--dry-run is about many runs"),
        (["--only", "random-s0", "--jobs", "2"], "--jobs is about many runs"),
        (["--budget", "20s", "--jobs", "2", "--dry-run"], "has a budget of seconds"),
        (["--set", "a=1"], "--set cannot be given beside a benchmark"),
        (["--detach"], "add --launch slurm"),
        (["--slurm", "time=1h"], "add --launch slurm"),
        (["--launch", "slurm", "--pack", "2"], "--pack is about this machine"),
        (["--only", "rndom-s0"], "Did you mean 'random-s0'"),
    ],
)
def test_no_option_is_dropped_silently(
    file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    path = file()
    out = path.parent / "runs"
    assert cli(monkeypatch, "run", str(path), "--out", str(out), *words) == USAGE
    assert said in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
