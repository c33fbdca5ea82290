"""What others hand over is hostile: it is refused in a line, or shown as plain text."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import cli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from safetensors.numpy import load_file, save_file
from synthetic import foreign, ledger, moment, pair, put, record

from maskbench import trust
from maskbench.errors import IO, StoreError
from maskbench.report import page
from maskbench.report.tape import read_masks
from maskbench.results import RECORD, read_metrics, read_record

EVIL = (
    "<script>alert(1)</script></style><img src=x onerror=y>[red]\x1b]0;title\x07\x1b[31m\x9b"
    "\u202e\u2066\r\n../../x"
)
CLEAN = record(
    "clmae",
    0,
    0.52,
    probes_during=[moment(0.5, 0.4, ledger(2.0))],
    masks={
        "file": "masks.safetensors",
        "images": 20,
        "moments": [0, 0.5, 1],
        "steps": [0, 5, 10],
        "difficulty": [{"gap": 0.1, "error": 0.01}] * 3,
    },
)
VALUES: list[Any] = [
    None, True, -1, 0, 1.5, 10**25, 10**40, 10**400, 1e308, 5e-324, float("nan"), float("inf"),
    "", EVIL, "\ud800", "x" * 200_000, "/etc/passwd", [], {}, [EVIL], [[[[[]]]]],
    {EVIL: EVIL}, {"a": {"b": {"c": 1}}},
]  # fmt: skip


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a record but the root; of lists the ends."""
    if here:
        yield here
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = list(value)
    elif value and isinstance(value, list):
        inner = sorted({0, len(value) - 1})
    for key in inner:
        yield from places(value[key], (*here, key))


def changed(place: tuple[Any, ...], how: str, value: Any) -> dict[str, Any]:
    """The clean record with a value replaced, removed or added at one place."""
    found: dict[str, Any] = json.loads(json.dumps(CLEAN))
    parent: Any = found
    for key in place[:-1]:
        parent = parent[key]
    if how == "gone":
        del parent[place[-1]]
    elif how == "more" and isinstance(parent, dict):
        parent[EVIL] = value
    else:
        parent[place[-1]] = value
    return found


def steers(text: str) -> set[str]:
    """Characters that are no plain text."""
    return {letter for letter in text if not letter.isprintable()} - {"\n"}


def harmless(html: str) -> bool:
    html = foreign(html)
    return not steers(html) and not any(
        w in html for w in ("<script", "</style><img", "<img src=x")
    )


QUICK = ("--figures", "none")
CALM = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.slow
@CALM
@given(
    place=some.sampled_from(list(places(CLEAN))),
    how=some.sampled_from(["other", "other", "other", "gone", "more"]),
    value=some.sampled_from(VALUES),
)
def test_a_hostile_record_is_refused_or_shown_as_text(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: tuple[Any, ...],
    how: str,
    value: Any,
) -> None:
    root = tmp_path_factory.mktemp("hostile")
    store = root / "runs"
    put(store, "random-0", record("random", 0, 0.5))
    evil = put(store, "evil", CLEAN)
    (evil / RECORD).write_text(json.dumps(changed(place, how, value)))
    where = ("--out", str(store))
    assert cli(monkeypatch, "ls", *where) == 0
    assert cli(monkeypatch, "show", "evil", *where) in (0, IO)
    code = cli(monkeypatch, "compare", "--runs", str(store), "--out", str(root / "page"), *QUICK)
    told = capsys.readouterr()
    assert code in (0, 3)
    assert "Traceback" not in told.err
    assert "unexpected" not in told.err
    assert not steers(told.out + told.err)
    assert len(told.out + told.err) < 100_000
    html = (root / "page" / page.NAME).read_text()
    assert harmless(html)
    assert ">random</th>" in html  # the good run is compared all the same
    assert {path.name for path in root.iterdir()} == {"runs", "page"}


LETTERS = some.characters(blacklist_characters="/\0", blacklist_categories=())


@settings(CALM, max_examples=15)
@given(name=some.text(LETTERS, min_size=1, max_size=30).map(lambda t: t + EVIL.replace("/", "")))
def test_hostile_names_of_folders_are_shown_as_text(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    root = tmp_path_factory.mktemp("names")
    try:
        folder = root / "runs" / os.fsdecode(os.fsencode(name)[:200])
        put(root / "runs", folder.name, {**CLEAN, "id": "x"}, files=False)
    except (OSError, ValueError):
        return  # no name of a file
    finally:
        put(root / "runs", "broken\x1b[31m<b>", {}, files=False)
    out = root / EVIL.replace("/", "")
    cli(monkeypatch, "ls", "--out", str(root / "runs"))
    cli(monkeypatch, "show", str(folder))
    assert cli(monkeypatch, "compare", "--runs", str(root / "runs"), "--out", str(out), *QUICK) == 3
    told = capsys.readouterr()
    assert "unexpected" not in told.err
    assert not steers(told.out + told.err)
    assert harmless((out / page.NAME).read_text())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested"),
        ('{"schema": 1, "a": ' + "[" * 30 + "]" * 30 + "}", "nested deeper than 20"),
        ('{"schema": NaN}', "no NaN"),
        ('{"schema": 1e999}', "not within"),
        ('{"schema": 2, "id": "newer"}', "schema 2; this maskbench reads 1"),
        ('{"schema": "\\u001b[31m"}', r"\x1b[31m"),
        ('{"schema": 1}', "lacks id"),
        ("[1]", "schema none"),
        ('{"a": "' + "x" * 200_000 + '"}', "characters in one text"),
        ("", "not a readable record"),
        ("\x80\x04pickle", "not a readable record"),
    ],
)
def test_what_is_no_record_is_refused_in_a_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(StoreError) as caught:
        read_record(tmp_path)
    told = str(caught.value)
    assert says in told
    assert str(tmp_path) in told
    assert told.isprintable()
    assert len(told) < 400


def test_json_is_read_as_python_reads_it() -> None:
    text = r'{"\ud800": [0.1, -0.0, 1E5, 1e-7, "\ud800", 123456789012345678901234567890]}'
    assert repr(trust.parse(text)) == repr(json.loads(text))


def link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def pipe(path: Path, target: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path, target: Path) -> None:
    link(path, path)


def sparse(path: Path, target: Path) -> None:
    os.truncate(path, trust.MAX_BYTES + 1)


@pytest.mark.parametrize("attack", [link, pipe, loop, sparse])
@pytest.mark.parametrize("name", ["record.json", "metrics.jsonl", "masks.safetensors"])
def test_files_of_a_run_are_its_own_and_of_a_size(
    tmp_path: Path, name: str, attack: Callable[[Path, Path], None]
) -> None:
    store = pair(tmp_path / "runs")
    secret = put(tmp_path / "elsewhere", "x", CLEAN) / name
    attack(store / "clmae-0" / name, secret)
    report = page.make(sorted(store.iterdir()))
    assert {item.run for item in report.left_out} == {"clmae-0"}
    assert ">random</th>" in report.html


def test_metrics_lines_of_any_kind_do_no_harm(tmp_path: Path) -> None:
    put(tmp_path, "random-0", record("random", 0, 0.5))
    lines = [
        '{"images": 4, "loss": NaN}', '{"images": 1e999, "loss": 1}', "[" * 5000, "[1]", "7",
        "null",
        '{"images": "x", "loss": {}}', '{"images": %s, "loss": 1}' % ("9" * 5000), '{"torn',
        '{"images": true, "loss": 1e29}', json.dumps({EVIL: EVIL}), '{"images": 8, "loss": 0.5}',
    ]  # fmt: skip
    (tmp_path / "random-0" / "metrics.jsonl").write_bytes(b"\xff\n" + "\n".join(lines).encode())
    assert {"images": 8, "loss": 0.5} in read_metrics(tmp_path / "random-0")
    report = page.make([tmp_path / "random-0"])
    assert not report.left_out
    assert harmless(report.html)


@pytest.mark.parametrize(
    "change",
    [
        {"bits": None}, {"steps": 5}, {"positions": 4}, {"bits": "float32"}, {"shown": "float32"},
        {"rows": 10**9}, {"rows": 0}, {"rows": -4}, {"rows": "4"}, {"rows": None}, {"columns": 5},
    ],
)  # fmt: skip
def test_masks_of_other_shapes_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = put(tmp_path, "random-0", record("random", 0, 0.5))
    path = folder / "masks.safetensors"
    arrays, grid = load_file(path), {"rows": 4, "columns": 4}
    for name, to in change.items():
        if name in grid:
            grid[name] = to
            grid["columns"] = to if name == "rows" else 5
        elif to is None:
            del arrays[name]
        elif isinstance(to, str):
            arrays[name] = arrays[name].astype(to)
        else:
            arrays[name] = arrays[name][:1].repeat(to)
    save_file(arrays, path, metadata={"grid": json.dumps(grid)})
    if change == {"rows": "4"}:
        assert read_masks(folder).hidden.shape[2:] == (4, 4)
        return
    with pytest.raises(StoreError, match="no readable masks"):
        read_masks(folder)
    [item] = page.make([folder]).left_out
    assert item.status == "missing file"


@pytest.mark.parametrize("bytes_", [b"", b"\x80\x04N.", b"\xff" * 8, b"\xff\xff\xff\x7f\0\0\0\0"])
def test_masks_that_are_no_safetensors_are_refused(tmp_path: Path, bytes_: bytes) -> None:
    folder = put(tmp_path, "random-0", record("random", 0, 0.5))
    whole = (folder / "masks.safetensors").read_bytes()
    for content in (bytes_, b"x" + bytes_ + whole, whole[: len(whole) // 2]):
        (folder / "masks.safetensors").write_bytes(content)
        with pytest.raises(StoreError, match="no readable masks"):
            read_masks(folder)


def test_nothing_that_a_record_names_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "evil.py"
    mine.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    name = f"{mine}:Mine"
    store = pair(tmp_path / "runs")
    found = record(name, 0, 0.5)
    put(store, "evil", found)
    for words in (["ls"], ["show", "evil"], ["ls", "strategies"]):
        assert cli(monkeypatch, *words, "--out", str(store)) == 0
    assert (
        cli(monkeypatch, "compare", "--runs", str(store), "--out", str(tmp_path / "page"), *QUICK)
        == 0
    )
    assert not (tmp_path / "ran").exists()


def test_plain_keeps_what_can_be_read() -> None:
    assert trust.plain("größe 画像 ± − é") == "größe 画像 ± − é"
    assert trust.plain("a\x1b[0m\u202eb\n", lines=True) == "a\\x1b[0m\\u202eb\n"
    assert trust.plain(3) == "3"
