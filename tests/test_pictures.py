"""The report's figures as a whole: inline and as files, small, legible, in colours that show."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from matplotlib.figure import Figure
from synthetic import EVIL, LONG, many, put, record
from test_earned import UNEARNED, group_of, planted

from maskbench import figures
from maskbench.figures.picture import KINDS, Picture
from maskbench.report import page
from maskbench.report.forest import forest
from maskbench.report.pictures import few_shot

DRAWS = True

STYLE = (Path(page.__file__).parent / "style.css").read_text(encoding="utf-8")

# All of them


@pytest.mark.parametrize("count", [1, 12])
def test_nothing_leaves_its_figure_and_pages_stay_small(tmp_path: Path, count: int) -> None:
    report = page.make(sorted(many(tmp_path, count, 3).iterdir()))
    names = [one.name for one in report.pictures]
    assert {"g1-forest", "g1-few-shot", "g1-epochs", "s1-cost1"} <= set(names)
    assert len(names) == len(set(names))
    for one in report.pictures:
        figure = one.draw()
        box = figure.get_tightbbox()
        assert box.x0 >= 0, one.name
        assert box.x1 <= figure.get_figwidth(), one.name
        assert box.y0 >= 0, one.name
        assert box.y1 <= figure.get_figheight(), one.name
        assert len(one.svg()) < 150_000, one.name
        assert not UNEARNED.findall(one.label)
        assert re.search(r"\d", one.label)


def test_hostile_labels_are_drawn_as_they_are(tmp_path: Path) -> None:
    evil = EVIL.replace("\ud800", "") + " #d55e00 url(#a) 100 %_$"
    for seed in range(3):
        put(tmp_path, f"random-{seed}", record("random", seed, 0.5), files=False)
        put(tmp_path, f"evil-{seed}", record(evil, seed, 0.52 + seed / 100), files=False)
    group = group_of(tmp_path)
    for found in (forest(group, "a"), few_shot(group, "b")):
        assert found
        svg = escape(found["svg"])
        assert "<script" not in svg
        assert "$x_1$" in svg
        for kind in KINDS:
            assert found["picture"].file(kind)
    label = figures.look(0)
    named = Figure()
    named.text(0, 0, "#d55e00 url(#a)", color=label.colour)
    inline = Picture("x", lambda: named, "one").svg()
    assert "#d55e00 url(#a)" in inline  # a text is no colour and no reference
    assert "currentColor" in inline


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_the_same_every_time(tmp_path: Path, kind: str) -> None:
    group = group_of(planted(tmp_path, 3))
    one, other = (forest(group, "a"), forest(group, "a"))
    assert one
    assert other
    inline = one["picture"].svg()
    content = one["picture"].file(kind)
    assert content == one["picture"].file(kind) == other["picture"].file(kind)
    assert (
        inline == one["picture"].svg() == escape(one["svg"])
    )  # a file leaves the figure as it was
    if kind == "svg":
        text = content.decode()
        assert ">grid</text>" in text
        assert set(re.findall(r"font-family: ([^;\"]*)", text)) == {
            "'DejaVu Sans', Verdana, Arial, sans-serif"
        }
        assert "var(--" not in text
    if kind == "pdf":
        assert b"/FontFile2" in content
        assert b"/Type3" not in content


@pytest.mark.slow
def test_files_do_not_depend_on_the_process(tmp_path: Path) -> None:
    code = (
        "import hashlib; from maskbench.figures import few_shot, look\n"
        "from maskbench.figures.curves import Curve\n"
        "from maskbench.figures.picture import KINDS, Picture\n"
        "panel = few_shot.Panel(Curve('a', look(1), [1, 2], [.1, .2]), [], 'n = 1')\n"
        "one = Picture('x', lambda: few_shot.few_shot([panel], [], .1), 'l')\n"
        "print([hashlib.sha256(one.file(k)).hexdigest() for k in KINDS])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "HOME": str(tmp_path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(told) == 1


# Colours


def luminance(colour: str) -> float:
    """WCAG 2.1, relative luminance of an sRGB colour."""
    share = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_series_stand_out_from_both_pages_and_from_paper() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
    for block in blocks:
        told = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        series = [told[f"series-{i}"] for i in range(1, len(figures.SERIES))]
        for colour in (*series, told["ink"], told["control"]):
            assert contrast(colour, told["paper"]) >= 3, (colour, told["paper"])
    assert len(blocks) == 2
    for colour in (*figures.SERIES, figures.CONTROL):
        assert contrast(colour, "#ffffff") >= 3, colour


def test_twelve_strategies_differ_without_their_colours() -> None:
    looks = [figures.look(rank) for rank in range(12)]
    assert len({look.marker for look in looks}) == 12
    assert len({(look.marker, str(look.dash)) for look in looks}) == 12
    assert not {look.marker for look in looks} & {figures.control(rank).marker for rank in range(3)}


def test_a_long_label_keeps_both_ends() -> None:
    assert figures.short("short", 22) == "short"
    assert len(figures.short(LONG % 1, 22)) == 22
    assert figures.short("abcdefghij", 5) == "ab…ij"
