"""The report's page in a real browser, from a file, without a network: desktop and phone width, light and dark."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtest.report import write_report
from tests.e2e.chromium import Page, browser
from tests.loadtest_runs import full_run, samples_by_id

DESKTOP, PHONE = 1280, 360
SMALLEST_TEXT_PX = 10.0

# Every text that is drawn, with the size at which it is drawn (a plot is scaled to its column).
TEXT_SIZES = """(() => {
  const sizes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.getClientRects().length) continue;
    const svg = element.closest('svg.plot');
    const scale = svg ? svg.getScreenCTM().a : 1;
    sizes.push([parseFloat(getComputedStyle(element).fontSize) * scale, text.slice(0, 40)]);
  }
  return sizes;
})()"""

# What sticks out of the window without being inside a box that scrolls, or in a plot out of its own drawing.
SIZES = """(() => {
  const box = element => { const r = element.getBoundingClientRect(); return [r.width, r.height, r.left, r.right]; };
  return {
    page: [document.documentElement.scrollWidth, innerWidth],
    plots: [...document.querySelectorAll('svg.plot')].map(box),
    figures: [...document.querySelectorAll('figure')].map(box),
    tables: [...document.querySelectorAll('table')].map(box),
    scrolls: [...document.querySelectorAll('.scroll')].map(box),
    details: document.querySelectorAll('details.cell').length,
  };
})()"""

# Texts of a plot that reach over its edge, or over one another.
PLOT_TEXTS = """[...document.querySelectorAll('svg.plot')].flatMap(svg => {
  const edge = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  const outside = texts.filter(([, r]) => r.left < edge.left - 1 || r.right > edge.right + 1
    || r.top < edge.top - 1 || r.bottom > edge.bottom + 1).map(([t]) => 'outside: ' + t);
  const over = texts.flatMap(([a, p], i) => texts.slice(i + 1).filter(([, q]) =>
    p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3 && q.top < p.bottom - 3)
    .map(([b]) => a + ' over ' + b));
  return [...outside, ...over];
})"""

# Contrast of texts with the first opaque background behind them (WCAG 2).
CONTRASTS = """(() => {
  const rgb = text => text.match(/[0-9.]+/g).map(Number);
  const light = c => { const s = c / 255; return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.querySelectorAll('h1,h2,h3,h4,p,li,dt,dd,th,td,a,summary span,q,strong,svg.plot text')) {
    if (!e.textContent.trim() || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const [a, b] = [luminance(rgb(e.closest('svg') ? style.fill : style.color)), luminance(behind(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) low.push([contrast.toFixed(2), e.tagName, e.textContent.trim().slice(0, 30)]);
  }
  return low;
})()"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = full_run()
    return write_report(run, samples_by_id(run).get, tmp_path_factory.mktemp("run"))[0].as_uri()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.fixture(params=[(DESKTOP, False), (DESKTOP, True), (PHONE, False), (PHONE, True)], ids=str)
def opened(request: pytest.FixtureRequest, tab: Page, report: str) -> Page:
    width, dark = request.param
    tab.open(report, width=width, dark=dark)
    return tab


def test_the_page_opens_without_a_complaint_and_asks_for_nothing_else(opened: Page, report: str) -> None:
    assert opened.complaints() == []
    assert [url for url in opened.requests() if url != "data:,"] == [report]


def test_everything_is_visible_and_nothing_makes_the_page_scroll_sideways(opened: Page) -> None:
    opened.ask("document.querySelectorAll('details').forEach(details => details.open = true)")
    sizes = opened.ask(SIZES)
    page_width, window_width = sizes["page"]
    assert page_width <= window_width
    assert len(sizes["plots"]) == 11
    assert len(sizes["tables"]) == 7, "T1 to T6 and the cells"
    for width, height, left, right in sizes["plots"]:
        assert width >= 250
        assert height >= 100
        assert 0 <= left < right <= window_width
    for width, height, _, _ in sizes["tables"]:
        assert width >= 250
        assert height >= 100
    for _, _, left, right in sizes["scrolls"] + sizes["figures"]:
        assert 0 <= left < right <= window_width


def test_texts_are_large_enough_and_keep_their_distance(opened: Page) -> None:
    opened.ask("document.querySelectorAll('details').forEach(details => details.open = true)")
    small = [found for found in opened.ask(TEXT_SIZES) if found[0] < SMALLEST_TEXT_PX]
    assert small == []
    assert opened.ask(PLOT_TEXTS) == []


def test_texts_stand_out_from_what_is_behind_them(opened: Page) -> None:
    opened.ask("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert opened.ask(CONTRASTS) == []


def test_every_cell_unfolds_to_its_details(opened: Page) -> None:
    assert opened.ask("[...document.querySelectorAll('details.cell')].map(d => d.open)") == [False] * 22
    opened.ask("document.querySelectorAll('details.cell > summary').forEach(summary => summary.click())")
    heights = opened.ask(
        "[...document.querySelectorAll('details.cell .groups')].map(g => g.getBoundingClientRect().height)"
    )
    assert len(heights) == 22
    assert min(heights) > 100


def test_the_tables_of_a_wide_window_need_no_scrolling(tab: Page, report: str) -> None:
    tab.open(report, width=DESKTOP)
    hidden = (
        "[...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth).map(s => s.ariaLabel)"
    )
    assert tab.ask(hidden) == []
