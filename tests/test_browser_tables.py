"""Tables of the report in a real browser: sorting and the filter."""

from typing import Any

from browser import EVIL_NAME, NAMES, unfold
from test_browser import BOARD, shown

DRAWS = True

HEADS = (
    *("Strategy", "Seeds", "Failed", "Rank", "FS-AULC", "− random", "Holm p", "4-shot", "20-NN"),
    *("Images", "FLOPs", "Time"),
)
ORDERS: dict[str, tuple[str, ...]] = {  # ascending, ties in the order of the page
    "Strategy": (EVIL_NAME, "clmae", "grid", "random"),
    "Rank": (EVIL_NAME, "clmae", "random", "grid"),  # with a failed run it has none
    "Failed": ("random", EVIL_NAME, "clmae", "grid"),
    "FS-AULC": ("random", "clmae", "grid", EVIL_NAME),
    "− random": ("clmae", "grid", EVIL_NAME, "random"),  # a dash is last
    "4-shot": ("random", "clmae", "grid", EVIL_NAME),
    "FLOPs": ("random", EVIL_NAME, "grid", "clmae"),
}


def order(page: Any) -> list[str]:
    found: list[str] = page.locator(f"{BOARD} tbody th").all_inner_texts()
    return found


def click(page: Any, head: str) -> str | None:
    cell = page.locator(f"{BOARD} thead tr:last-child th").nth(HEADS.index(head))
    cell.locator("button").click()
    said: str | None = cell.get_attribute("aria-sort")
    return said


def test_every_column_can_be_sorted_and_put_back(page: Any) -> None:
    first = order(page)
    assert tuple(page.locator(f"{BOARD} .sort").all_inner_texts()) == HEADS
    for head in HEADS:
        assert click(page, head) == "ascending"
        assert click(page, head) == "descending"
        assert click(page, head) is None
        assert order(page) == first


def test_order_of_the_leaderboard(page: Any) -> None:
    first = order(page)
    for head, wanted in ORDERS.items():
        assert click(page, head) == "ascending"
        assert order(page) == list(wanted), head
        assert click(page, head) == "descending"
        ties = {"Failed": {"grid": 1}, "FLOPs": {"clmae": 1}}.get(head)
        ranks = ties or {name: rank for rank, name in enumerate(wanted, 1)}
        ranks |= {"− random": {"random": -1}, "Rank": {"grid": -1}}.get(head, {})
        assert order(page) == sorted(first, key=lambda name: -ranks.get(name, 0)), head
        assert page.locator(f"{BOARD} [aria-sort]").count() == 1


SHOWN = {
    "signs": ["+1.3 [0.1, 2]", "−2.7 [−8.1, 2.7]", "–", "+10.2", "0.0"],
    "scales": ["358 G", "2.73 T", "–", "≥ 4 G", "71.6 M", "900", "1 P"],
    "times": ["19.8 s", "1.2 min", "56.2 ms", "2.50 h", "–", "600 s"],
    "multiples": ["7.63×", "0.73×", "–", "10.01×"],
    "percent": ["12.5 %", "9 %", "", "100 %"],
    "counts": ["10,000", "9,999", "80", "1,234,567"],
    "words": ["draft", "–", "test", "ab"],
    "small": ["< 0.0001", "0.05", "–", "1.2e-3"],
}
SORTED = {
    "signs": ["−2.7 [−8.1, 2.7]", "0.0", "+1.3 [0.1, 2]", "+10.2", "–"],
    "scales": ["900", "71.6 M", "≥ 4 G", "358 G", "2.73 T", "1 P", "–"],
    "times": ["56.2 ms", "19.8 s", "1.2 min", "600 s", "2.50 h", "–"],
    "multiples": ["0.73×", "7.63×", "10.01×", "–"],
    "percent": ["9 %", "12.5 %", "100 %", ""],
    "counts": ["80", "9,999", "10,000", "1,234,567"],
    "words": ["ab", "draft", "test", "–"],
    "small": ["< 0.0001", "1.2e-3", "0.05", "–"],
}
RUN_AGAIN = """(cells) => {
  document.querySelector(".probe")?.remove();
  const table = document.createElement("table");
  table.className = "sortable probe";
  table.innerHTML = "<thead><tr><th>name</th><th class=n>value</th></tr></thead><tbody></tbody>";
  for (const text of cells) {
    const row = table.tBodies[0].insertRow();
    row.insertCell().textContent = "x";
    row.insertCell().textContent = text;
  }
  document.querySelector("main").prepend(table);
  (0, eval)(document.querySelector("body > script").textContent);
}"""


def test_cells_sort_by_what_they_mean(page: Any) -> None:
    page.evaluate("document.querySelectorAll('table').forEach((one) => one.remove())")
    for kind, texts in SHOWN.items():
        page.evaluate(RUN_AGAIN, texts)
        cells, head = page.locator(".probe tbody td:last-child"), page.locator(".probe .sort").last
        head.click()
        assert cells.all_text_contents() == SORTED[kind]
        head.click()
        known = [text for text in SORTED[kind] if text not in ("–", "")]
        assert cells.all_text_contents() == [*known[::-1], *SORTED[kind][len(known) :]]
        head.click()
        assert cells.all_text_contents() == texts


# The filter


def test_the_filter_hides_a_strategy_wherever_it_has_a_row_or_a_picture(page: Any) -> None:
    said = page.locator(".filter summary")
    assert said.inner_text() == "Filter: all 4 strategies"
    said.click()
    unfold(page)
    for box in (".leaderboard tbody th", ".player figcaption strong", ".tape strong", ".origins"):
        assert any("clmae" in text for text in shown(page, box)), box
    page.get_by_role("checkbox", name="clmae").uncheck()
    assert said.inner_text() == "Filter: 3 of 4 strategies"
    for box in (".leaderboard tbody th", ".player figcaption strong", ".tape strong", ".origins"):
        left = shown(page, box)
        assert left
        assert not any("clmae" in text for text in left), box
        assert any("random" in text for text in left), box
    click(page, "FS-AULC")
    assert "clmae" not in shown(page, f"{BOARD} tbody th")
    page.get_by_role("checkbox", name="clmae").check()
    assert said.inner_text() == "Filter: all 4 strategies"
    assert set(shown(page, f"{BOARD} tbody th")) == set(NAMES)


def test_names_that_begin_alike_are_told_apart(page: Any) -> None:
    """Filtering one strategy out leaves one whose name begins with it."""
    page.evaluate("""document.querySelectorAll('.leaderboard tr[data-strategy="grid"]')
        .forEach((row) => { row.dataset.strategy = "random-2"; })""")
    page.evaluate("document.getElementById('tools').replaceChildren()")
    page.evaluate("(0, eval)(document.querySelector('body > script').textContent)")
    page.locator(".filter summary").click()
    page.get_by_role("checkbox", name="random", exact=True).uncheck()
    assert "random" not in shown(page, f"{BOARD} tbody th")
    assert "grid" in shown(page, f"{BOARD} tbody th")  # its row, now of random-2
