"""The report in a real browser: from the disk, alone, and everything that can be clicked."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from browser import EVIL_NAME, Made, opened

DRAWS = True

Visit = Callable[..., Any]
BOARD = "#s1 .tab:not([hidden]) > .board:first-of-type .leaderboard"


def shown(page: Any, selector: str) -> list[str]:
    """Texts of what is visible."""
    found: list[str] = page.locator(f"{selector}:visible").all_inner_texts()
    return found


# Alone on the disk


def test_it_opens_from_the_disk_and_asks_for_nothing_else(visit: Visit) -> None:
    page = visit()  # the fixture fails on requests, errors and words on the console
    assert page.title() == "maskbench: which masking strategy is worth its cost?"
    assert page.evaluate("document.documentElement.classList.contains('js')")
    assert page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)"
                         ".filter((name) => !name.startsWith('data:'))") == []  # fmt: skip
    assert page.evaluate("document.cookie + JSON.stringify({...localStorage})") == "{}"


def test_foreign_code_would_neither_run_nor_load(chromium: Any, made: Made, tmp_path: Path) -> None:
    """Even where something slipped through the escaping, the page's policy stops it."""
    slipped = (
        '<img src="x" onerror="window.ran = 1"><script>window.ran = 2</script>'
        '<img src="https://example.org/x.png">'
    )
    file = tmp_path / "report.html"
    file.write_text(made.html.replace("</main>", f"{slipped}</main>"), encoding="utf-8")
    with opened(chromium, file) as seen:
        assert seen.page.evaluate("window.ran ?? 'nothing'") == "nothing"
        assert seen.asked == []
        assert sum("Content Security Policy" in said for said in seen.said) >= 3
        assert seen.page.locator("[role=tab]").count() > 0  # its own script did run


def test_hostile_names_are_shown_and_not_read_as_html(page: Any) -> None:
    assert page.locator(f"{BOARD} tbody th").all_inner_texts().count(EVIL_NAME) == 1
    assert page.locator("[onclick], [onload], [onerror]").count() == 0
    assert EVIL_NAME in [one.strip() for one in page.locator(".filter label").all_text_contents()]


# Tabs


def state(page: Any) -> list[tuple[str, str, int, bool]]:
    """Of every tab of the first leaderboard: name, chosen, in the Tab order, panel hidden."""
    found = page.evaluate("""[...document.querySelectorAll("#s1 [role=tab]")]
        .map((tab) => [tab.textContent, tab.getAttribute("aria-selected"), tab.tabIndex,
          document.getElementById(tab.getAttribute("aria-controls")).hidden])""")
    return [tuple(one) for one in found]


TITLES = ("Equal images", "Equal FLOPs", "Equal time")


def only(chosen: int) -> list[tuple[str, str, int, bool]]:
    return [
        (title, "true" if rank == chosen else "false", 0 if rank == chosen else -1, rank != chosen)
        for rank, title in enumerate(TITLES)
    ]


def test_tabs_by_click(page: Any) -> None:
    assert state(page) == only(0)
    for rank in (2, 1, 0):
        page.get_by_role("tab", name=TITLES[rank]).first.click()
        assert state(page) == only(rank)


def test_tabs_by_keyboard(page: Any) -> None:
    page.get_by_role("tab", name=TITLES[0]).first.focus()
    keys = ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "Home", "End", "ArrowLeft")
    for key, rank in zip(keys, (1, 2, 0, 2, 0, 2, 1), strict=True):
        page.keyboard.press(key)
        assert state(page) == only(rank)
        assert page.evaluate("document.activeElement.textContent") == TITLES[rank]
    page.keyboard.press("a")
    assert state(page) == only(1)


# Deep links


def test_a_link_to_a_run_opens_it_and_scrolls_there(visit: Visit) -> None:
    page = visit("#run-r1-2")
    assert page.evaluate("document.getElementById('run-r1-2').open")
    assert not page.evaluate("document.getElementById('run-r1-1').open")
    assert 0 <= page.locator("#run-r1-2").bounding_box()["y"] < 800


def test_a_link_opens_all_that_is_folded_around_its_target(visit: Visit) -> None:
    hidden = visit()
    inner = hidden.evaluate("""[...document.querySelectorAll("details.more details.more [id]")]
        .map((node) => node.id).find(Boolean)
        ?? document.querySelector("details.more .group").id""")
    assert not hidden.locator(f"#{inner}").is_visible()
    page = visit(f"#{inner}")
    assert page.locator(f"#{inner}").is_visible()
    back = visit("#g3")
    assert back.locator("#g3-h").is_visible()
    back.evaluate("location.hash = 's2'")
    back.wait_for_function("document.getElementById('s2').closest('details').open")
    assert back.locator("#s2-h").is_visible()


def test_a_link_into_another_tab_chooses_it(visit: Visit) -> None:
    board = visit().evaluate("document.querySelectorAll('.tab')[1].querySelector('.board').id")
    assert state(visit(f"#{board}")) == only(1)


def test_an_odd_link_breaks_nothing(visit: Visit) -> None:
    page = visit("#%E0%A4%A")
    for odd in ("nothing", "%", "<b>", ""):
        page.evaluate("(to) => { location.hash = to; }", odd)
        assert state(page) == only(0)


def test_every_link_leads_to_something_visible(page: Any) -> None:
    links = page.evaluate("[...new Set([...document.querySelectorAll('a[href]')]"
                          ".map((a) => a.getAttribute('href')))]")  # fmt: skip
    assert len(links) > 10
    for link in links:
        assert re.fullmatch("#[A-Za-z0-9_.+-]+", link)
        page.evaluate("(to) => { location.hash = to; }", link)
        page.wait_for_function("(to) => document.getElementById(to)?.checkVisibility()",
                               arg=link[1:])  # fmt: skip


# Copying


def test_copy_puts_the_very_text_on_the_clipboard(visit: Visit) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.locator(".copies summary:visible").first.click()
    buttons = page.locator(".copy button:visible")
    assert buttons.count() == 3
    for rank in range(3):
        box = page.locator(".copy:visible").nth(rank)
        buttons.nth(rank).click()
        box.get_by_text("copied").wait_for()
        text = box.locator("pre").text_content()
        assert page.evaluate("navigator.clipboard.readText()") == text
        assert "random" in text


def test_without_permission_the_old_way_copies_the_same(visit: Visit) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.evaluate("navigator.clipboard.writeText('old'); "
                  "navigator.clipboard.writeText = () => Promise.reject(1); 0")  # fmt: skip
    page.locator(".copies summary:visible").first.click()
    box = page.locator(".copy:visible").nth(2)
    box.locator("button").click()
    box.get_by_text("copied").wait_for()
    text = box.locator("pre").text_content()
    assert page.evaluate("navigator.clipboard.readText()").strip() == text.strip()


def test_where_nothing_copies_the_text_is_selected_and_the_key_said(visit: Visit) -> None:
    page = visit()
    page.evaluate("navigator.clipboard.writeText = () => Promise.reject(1); "
                  "document.execCommand = () => false")  # fmt: skip
    page.locator(".copies summary:visible").first.click()
    box = page.locator(".copy:visible").first
    box.locator("button").click()
    box.get_by_text("selected: copy with Ctrl+C").wait_for()
    selected = page.evaluate("getSelection().toString()")
    assert selected.strip() == box.locator("pre").text_content().strip()
