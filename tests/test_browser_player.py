"""The mask player in a real browser: what each layer draws, and by which keys."""

import re
from typing import Any

import numpy as np
import pytest
from browser import (
    COUNT,
    MOMENTS,
    canvas,
    images,
    masks,
    pictures,
    settle,
    tiles,
)
from numpy.typing import NDArray
from studies import maps
from synthetic import GRID

DRAWS = True

GREY = (222, 222, 222)
SLIDER = ".player input[type=range]"


def ranks(page: Any) -> dict[str, int]:
    """Of every strategy, which canvas is its own."""
    names = page.locator("#g1 .player figcaption strong").all_inner_texts()
    return {name: rank for rank, name in enumerate(names)}


def layer(page: Any, name: str) -> None:
    page.locator(f"#g1 .player input[value={name}]").check()
    settle(page)


def to(page: Any, moment: int) -> None:
    slider = page.locator(SLIDER).first
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(moment):
        page.keyboard.press("ArrowRight")
    settle(page)


def near(patches: NDArray[np.uint8], picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether patches have the colour of those of pictures, (images, rows, columns)."""
    step = picture.shape[1] // GRID
    wanted = picture[:COUNT, step // 2 :: step, step // 2 :: step].astype(float)
    middle = patches[:, :, :, 8:12, 8:12].mean(axis=(3, 4))
    found: NDArray[np.bool_] = np.abs(middle - wanted).max(axis=-1) < 40
    return found


def covered(patches: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether patches are the grey of the cover: its corner, away from the stroke."""
    found: NDArray[np.bool_] = (patches[:, :, :, 2:4, 2:4] == GREY).all(axis=(3, 4, 5))
    return found


def test_masks_cover_the_hidden_patches_and_no_others(page: Any) -> None:
    settle(page)
    for moment in range(MOMENTS):
        to(page, moment)
        for name, rank in ranks(page).items():
            patches = tiles(canvas(page, rank))
            hidden = masks(name)[moment, :COUNT]
            np.testing.assert_array_equal(covered(patches), hidden)
            assert near(patches, images())[~hidden].mean() > 0.9
            strokes = (patches == (140, 140, 140)).all(axis=-1).any(axis=(3, 4))
            np.testing.assert_array_equal(strokes, hidden)  # not by colour alone


def test_images_are_shown_whole(page: Any) -> None:
    layer(page, "image")
    for rank in ranks(page).values():
        patches = tiles(canvas(page, rank))
        assert near(patches, images()).mean() > 0.9
        assert not covered(patches).any()


def test_reconstructions_are_those_of_the_strategy_and_the_moment(page: Any) -> None:
    layer(page, "reconstruction")
    for moment in (0, 2):
        to(page, moment)
        for name, rank in ranks(page).items():
            patches = tiles(canvas(page, rank))
            told = page.locator("#g1 .player .told").nth(rank).inner_text()
            label = page.locator("#g1 .player canvas").nth(rank).get_attribute("aria-label")
            if name == "grid":  # has none, and says so
                assert near(patches, images()).mean() > 0.9
                assert "not recorded for this run" in told
                assert "not recorded" in label
                continue
            assert near(patches, pictures(name)[moment]).mean() > 0.9
            assert near(patches, pictures(name)[1]).mean() < 0.2
            assert "not recorded" not in told
            assert label.endswith("reconstructions")


def test_saliency_is_brightest_where_the_map_is_largest(page: Any) -> None:
    layer(page, "saliency")
    wanted = maps()[:COUNT].reshape(COUNT, GRID, GRID)
    for name in ("random", "clmae"):
        patches = tiles(canvas(page, ranks(page)[name])).astype(float)
        light = patches[:, :, :, 8:12, 8:12].mean(axis=(3, 4)) @ (0.2126, 0.7152, 0.0722)
        for drawn, known in zip(light.reshape(COUNT, -1), wanted.reshape(COUNT, -1), strict=True):
            np.testing.assert_array_equal(drawn.argsort(), known.argsort())
        outlined = (patches[:, :, :, 0, 5:15] == 255).all(axis=(3, 4))
        np.testing.assert_array_equal(outlined, masks(name)[-1, :COUNT])
    assert "not recorded" in page.locator("#g1 .player .told").nth(ranks(page)["grid"]).inner_text()


def test_choosing_a_source_shows_saliency(page: Any) -> None:
    box = page.locator("#g1 .player")
    assert box.locator("select option").all_inner_texts() == ["edges"]
    page.evaluate("document.querySelector('#g1 .player select')"
                  ".dispatchEvent(new Event('change'))")  # fmt: skip
    assert box.locator("input[value=saliency]").is_checked()


def told(page: Any) -> tuple[str, str, float, bytes, str]:
    box = page.locator("#g1 .player")
    slider = box.locator("input[type=range]")
    line = float(box.locator(".now").get_attribute("x1"))
    words = box.locator(".told").nth(ranks(page)["clmae"]).inner_text()
    drawn = canvas(page, ranks(page)["clmae"]).tobytes()
    return (
        box.locator("output").inner_text(),
        slider.get_attribute("aria-valuetext"),
        line,
        drawn,
        words,
    )


def test_the_slider_moves_pictures_words_and_the_line_of_the_schedule(page: Any) -> None:
    seen = []
    for moment, share in enumerate((0, 40, 100)):
        to(page, moment)
        text, value, line, drawn, words = told(page)
        assert text == value == f"{share} % of the budget"
        weight = f"{1 - 2 * share / 100:.2f}".replace("-", "−")
        assert words.strip() == f"at {share} % of the budget, λ = {weight}"
        seen.append((line, drawn))
    lines, pixels = zip(*seen, strict=True)
    assert (lines[1] - lines[0]) / (lines[2] - lines[0]) == pytest.approx(0.4, abs=0.01)
    assert len(set(pixels)) == MOMENTS
    course = page.locator("#g1 .player .course").first.get_attribute("points").split()
    assert float(course[0].split(",")[0]) == pytest.approx(lines[0], abs=0.2)
    assert float(course[-1].split(",")[0]) == pytest.approx(lines[2], abs=0.2)


def test_tab_reaches_every_control_in_order(page: Any) -> None:
    page.locator(SLIDER).first.focus()
    reached = []
    for _ in range(4):
        reached.append(page.evaluate("[document.activeElement.localName, "
                                     "document.activeElement.type ?? '']"))  # fmt: skip
        page.keyboard.press("Tab")
    kinds = [["input", "range"], ["input", "radio"], ["select", "select-one"]]
    assert reached[:3] == kinds
    assert reached[3] == ["div", ""]  # the images, which can be scrolled by keys
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    before = canvas(page)
    page.keyboard.press("ArrowRight")
    settle(page)
    assert page.locator("#g1 .player input[type=radio]:checked").input_value() == "reconstruction"
    assert not np.array_equal(before, canvas(page))


def test_nothing_plays_by_itself(page: Any) -> None:
    settle(page)
    before = told(page)
    page.wait_for_timeout(400)
    assert told(page) == before
    assert page.evaluate("document.getAnimations().length") == 0
    assert page.locator("video, audio, marquee, animate, [autoplay]").count() == 0
    script = page.locator("body > script").text_content()
    assert not re.search(r"setInterval|setTimeout|requestAnimationFrame|\.play\(\)", script)


def test_a_folded_player_draws_once_it_is_unfolded(page: Any) -> None:
    box = page.locator("#g2 .player")
    assert not box.is_visible()
    page.locator("details.chapter-more > summary").click()
    box.locator("canvas").first.wait_for()
    settle(page)
    held = page.evaluate("document.querySelector('#g2 canvas').width")
    assert held == COUNT * 80 + (COUNT - 1) * 4
    assert box.locator("select").count() == 0  # nothing of these runs is studied
    assert box.locator("input[value=saliency]").is_disabled()
