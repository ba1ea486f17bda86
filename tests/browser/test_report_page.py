"""The page of a report in Chromium: without a network, sortable, in light and dark, on a phone, and accessible."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from tests.unit.report.reports import HOSTILE, report_of
from truepixel_dagster.report.html import page

PHONE: ViewportSize = {"width": 360, "height": 740}
DESKTOP: ViewportSize = {"width": 1200, "height": 900}
# The contrast of a text with its background, by WCAG 2.1, for every element with text of its own.
LEAST_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((part, index) => (index < 3 ? part : part / 255));
  };
  const over = (top, below) => [0, 1, 2].map((part) => top[part] * top[3] + below[part] * (1 - top[3])).concat(1);
  const behind = (element) => {
    if (!element) return [255, 255, 255, 1];
    return over(rgba(getComputedStyle(element).backgroundColor), behind(element.parentElement));
  };
  const light = (color) => {
    const [r, g, b] = color.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (element) => {
    const style = getComputedStyle(element);
    const text = rgba(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(text), light(behind(element.closest(":not(svg *)")))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  const shown = (element) => element.checkVisibility() && !["SCRIPT", "STYLE", "TITLE"].includes(element.tagName);
  return Math.min(...[...document.body.querySelectorAll("*")].filter((e) => own(e) && shown(e)).map(contrast));
}"""


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The page, opened from a file; whatever it logs or requests fails the test."""
    file = tmp_path / "report.html"
    file.write_text(page(report_of(HOSTILE), "Europe/Berlin"), "utf-8")
    context = browser.new_context(viewport=DESKTOP)
    shown = context.new_page()
    trouble: list[Any] = []
    shown.on("console", lambda message: trouble.append(message.text))
    shown.on("pageerror", lambda error: trouble.append(str(error)))
    shown.on("request", lambda request: trouble.append(request.url) if request.url != file.as_uri() else None)
    shown.goto(file.as_uri())
    yield shown
    context.close()
    assert trouble == []


def campaigns(shown: Page) -> list[str]:
    return shown.locator("table.sortable tbody th").all_inner_texts()


def test_a_click_on_a_heading_sorts_the_campaigns(opened: Page) -> None:
    as_written = campaigns(opened)
    assert as_written[1:] == ["autumn", "–"]
    heading = opened.get_by_role("button", name="net", exact=True)
    heading.click()
    assert campaigns(opened) == as_written
    heading.click()
    assert campaigns(opened) == as_written[::-1]
    assert opened.locator("table.sortable th[aria-sort]").get_attribute("aria-sort") == "ascending"
    # By the keyboard, too; cells without a value are last.
    opened.get_by_role("button", name="ROAS").focus()
    opened.keyboard.press("Enter")
    assert campaigns(opened)[0] == as_written[0]
    opened.get_by_role("button", name="campaign").click()
    assert campaigns(opened)[0] == "–"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(opened: Page, scheme: Any) -> None:
    opened.emulate_media(color_scheme=scheme)
    for closed in opened.locator("summary").all():
        closed.click()
    dark = opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    assert dark == (scheme == "dark")
    assert opened.evaluate(LEAST_CONTRAST) >= 4.5


def test_charts_have_colours_names_and_tables(opened: Page) -> None:
    charts = opened.locator("figure > [role=img]:visible")
    assert [bool(chart.get_attribute("aria-label")) for chart in charts.all()] == [True, True]
    colours = "[...document.querySelectorAll('.wide .mark-rect path')].map((bar) => getComputedStyle(bar).fill)"
    assert len(set(opened.evaluate(colours))) == 2
    opened.get_by_text("Revenue by channel, EUR as a table").click()
    assert opened.get_by_role("row", name="2026-01-17").first.is_visible()
    assert opened.locator("caption").count() == 7
    assert opened.evaluate("document.documentElement.lang") == "en"


def test_a_phone_shows_everything_in_its_width(opened: Page) -> None:
    opened.set_viewport_size(PHONE)
    for closed in opened.locator("summary").all():
        closed.click()
    assert opened.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert opened.locator(".narrow svg").first.is_visible()
    assert not opened.locator(".wide svg").first.is_visible()
    # Texts of a chart that is not scaled down have 12 pixels.
    size = "(svg) => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width"
    assert min(opened.locator(".narrow svg").nth(number).evaluate(size) for number in range(2)) > 0.85
