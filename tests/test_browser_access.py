"""The report for everyone: axe, contrast, narrow screens, paper, no script, no motion."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from browser import settle, unfold

DRAWS = True

Visit = Callable[..., Any]
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
SIZES = [360, 768, 1280]

# WCAG 2.1's contrast ratio (success criterion 1.4.3), of texts in figures, which axe leaves out
CONTRAST = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((one) => {
      const c = Number(one) / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const texts = [...document.querySelectorAll("svg text")];
  return texts.filter((one) => one.checkVisibility()).map((one) => {
    const style = getComputedStyle(one);
    const ink = light(style.fill);
    const seen = Number(style.opacity) * Number(style.fillOpacity);
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    return [one.textContent, style.fill, seen, ratio];
  });
}"""
OUTSIDE = """() => [...document.querySelectorAll("body *")].filter((one) => {
  if (!one.checkVisibility() || one.closest(".scroll, pre, .skip, svg")) return false;
  const box = one.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 1 || box.left < -1);
}).map((one) => one.outerHTML.slice(0, 120))"""


def violations(page: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    options = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
    # Headings repeat from setting to setting, and so do the names of the sections they are of
    options["rules"] = {"landmark-unique": {"enabled": False}}
    found = Axe().run(page, {"exclude": [["svg *"]]}, options)
    return [
        f"{rule['id']}: {rule['help']}: {[node['html'][:150] for node in rule['nodes'][:3]]}"
        for rule in found.response["violations"]
    ]


def looks(page: Any) -> None:
    """Texts in figures can be told from the paper."""
    found = page.evaluate(CONTRAST)
    assert len(found) > 50
    assert [one for one in found if one[2] < 1 or one[3] < 4.5] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_in_figures_can_be_told_from_the_paper(visit: Visit, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    unfold(page)
    looks(page)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("wide", [360, 1280])
def test_axe_finds_nothing(visit: Visit, wide: int, scheme: str) -> None:
    page = visit(color_scheme=scheme, viewport={"width": wide, "height": 800})
    unfold(page)
    assert violations(page) == []


def test_only_tables_and_pictures_scroll_sideways(visit: Visit) -> None:
    page = visit()
    for open_too in (False, True):
        if open_too:
            unfold(page)
        for wide in SIZES:
            page.set_viewport_size({"width": wide, "height": 800})
            settle(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= wide
            assert page.evaluate(OUTSIDE) == []


def test_the_leaderboard_fits_a_desktop_and_keeps_its_names_on_a_phone(visit: Visit) -> None:
    page = visit()
    box = page.locator("#s1 .board .scroll").first
    assert box.evaluate("(one) => one.scrollWidth <= one.clientWidth")
    page.set_viewport_size({"width": 360, "height": 800})
    name = box.locator("tbody th").first
    before = name.bounding_box()["x"]
    box.evaluate("(one) => { one.scrollLeft = 300; }")
    settle(page)
    assert box.evaluate("(one) => one.scrollLeft") == 300
    assert name.bounding_box()["x"] == pytest.approx(before, abs=1)


def test_figures_can_be_read_on_a_phone(visit: Visit) -> None:
    page = visit(viewport={"width": 360, "height": 800})
    unfold(page)
    small = page.evaluate("""[...document.querySelectorAll("main svg text")]
        .filter((one) => one.checkVisibility())
        .map((one) => [one.textContent, one.getBoundingClientRect().height])
        .filter(([text, high]) => text.trim() && high < 7)""")
    assert small == []


def test_structure_for_screen_readers(page: Any) -> None:
    unfold(page)
    levels = page.evaluate("""[...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
        .map((one) => Number(one.localName[1]))""")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    for landmark in ("main", "header", "footer"):
        assert page.locator(f"body > {landmark}").count() == 1
    wrong = page.evaluate("""({
      silent: [...document.querySelectorAll("img:not([alt]), svg:not([aria-hidden]), canvas")]
        .filter((one) => one.localName === "img" || !(one.getAttribute("aria-label")
          || one.getAttribute("aria-labelledby") || one.querySelector("title")))
        .map((one) => one.outerHTML.slice(0, 150)),
      tables: [...document.querySelectorAll("table")]
        .filter((one) => !one.caption?.textContent.trim()
          || !one.querySelector("thead th[scope=col]") || one.querySelector("th:not([scope])")
        || [...one.querySelectorAll("tbody tr")].some((row) => row.cells[0].localName !== "th"))
        .map((one) => one.outerHTML.slice(0, 150)),
      nameless: [...document.querySelectorAll("section:not([aria-labelledby]):not([aria-label])")]
        .map((one) => one.outerHTML.slice(0, 150)),
      torn: [...document.querySelectorAll("[aria-labelledby], [aria-controls], [for]")]
        .filter((one) => !document.getElementById(one.getAttribute("aria-labelledby")
          ?? one.getAttribute("aria-controls") ?? one.getAttribute("for")))
        .map((one) => one.outerHTML.slice(0, 150)),
    })""")
    assert wrong == {"silent": [], "tables": [], "nameless": [], "torn": []}


def test_the_first_tab_skips_to_the_results(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main"
    assert page.locator(".skip").bounding_box()["x"] >= 0


def test_motion_only_for_those_who_do_not_mind(visit: Visit) -> None:
    found = []
    for motion in ("reduce", "no-preference"):
        page = visit(reduced_motion=motion)
        found.append(page.evaluate("getComputedStyle(document.documentElement).scrollBehavior"))
        assert page.evaluate("""[...document.querySelectorAll("*")].filter((one) => {
          const style = getComputedStyle(one);
          return style.animationName !== "none" || parseFloat(style.transitionDuration) > 0;
        }).length""") == 0  # fmt: skip
    assert found == ["auto", "smooth"]


def test_paper_shows_everything_and_no_controls(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    settle(page)
    hidden = page.evaluate("""[...document.querySelectorAll("main :is(table, svg, img, pre)")]
        .filter((one) => !one.closest(".player[hidden]"))  // never unfolded: its strips are there
        .filter((one) => !one.checkVisibility() || !one.getBoundingClientRect().height)
        .map((one) => one.outerHTML.slice(0, 100))""")
    assert hidden == []
    assert page.evaluate("""[...document.querySelectorAll("button, input, select, [role=tablist]")]
        .filter((one) => one.checkVisibility()).length""") == 0  # fmt: skip
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    dark = [one for one in page.evaluate(CONTRAST) if one[3] < 4.5]
    assert dark == []


def test_without_script_everything_is_there_to_read(visit: Visit) -> None:
    page = visit(java_script_enabled=False)
    tabs, boards = page.locator("#s1 .tab"), page.locator("#s1 .tab > .board:first-of-type table")
    assert tabs.locator("visible=true").count() == 3
    assert boards.locator("visible=true").count() == boards.count() >= 2
    for seen in (".verdict", "#g1 svg[role=img]", "#g1 .tape img", "#g1 .methods p"):
        assert page.locator(seen).locator("visible=true").count() > 0, seen
    page.locator("#run-r1-0 > summary").click()  # folds work by themselves
    assert page.locator("#run-r1-0 .again code").is_visible()
    for absent in ("button", "input", "select", "canvas", "[role=tab]", ".player", "#tools > *"):
        assert page.locator(absent).locator("visible=true").count() == 0, absent
