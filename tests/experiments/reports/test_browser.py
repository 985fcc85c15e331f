"""A page in headless Chromium: sorted, filtered, hovered, zoomed, copied, by mouse and keys, on phones, in the dark."""

import os
import re
import shutil

import numpy as np
import pytest

from experiments.cli import main as cli

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.robustness,
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium (Debian: apt-get install chromium)"),
]

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    # Its sandbox does not start for root, as in a container.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=BROWSER, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Returns a function that opens a page; at the end nothing must have gone wrong in it, nothing have been loaded."""
    contexts, wrong = [], []

    def load(path, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        shown = context.new_page()
        shown.set_default_timeout(20_000)
        shown.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        shown.on("pageerror", lambda error: wrong.append(str(error)))
        shown.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else wrong.append(asked.url))
        shown.goto(path.as_uri())
        return shown

    yield load
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def shown(visit, made_up):
    return visit(made_up / "report.html")


def table(shown, title):
    return shown.locator(".table", has=shown.get_by_role("heading", name=title, exact=True))


def column(box, place):
    return box.locator("tbody tr:visible").locator(f"xpath=*[{place + 1}]").all_inner_texts()


def numbers(texts):
    return [float(text.split()[0]) for text in texts]


def test_a_click_on_a_head_sorts(shown):
    box = table(shown, "Table 1: ℓ0")
    before = column(box, 2)
    head = box.get_by_role("columnheader", name="d = 10")
    for order, sign in (("ascending", 1), ("descending", -1)):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == order
        found = [sign * value for value in numbers(column(box, 2))]
        assert found == sorted(found)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "none"
    assert column(box, 2) == before


def test_keys_sort_too_and_one_column_at_a_time(shown):
    box = table(shown, "Table 1: ℓ0")
    box.get_by_role("columnheader", name="d = 20").get_by_role("button").focus()
    shown.keyboard.press("Enter")
    values = numbers(column(box, 3))
    assert values == sorted(values)
    shown.keyboard.press("Shift+Tab")  # to the head before
    shown.keyboard.press("Space")
    values = numbers(column(box, 2))
    assert values == sorted(values)
    orders = [head.get_attribute("aria-sort") for head in box.get_by_role("columnheader").all()]
    assert orders == ["none", "none", "ascending", "none"]


def test_rows_can_be_filtered(shown):
    box = table(shown, "Table 1: ℓ0")
    every = len(column(box, 1))
    box.get_by_role("searchbox").fill("θ PAPER")
    assert column(box, 1) == ["paper"] * 2
    assert box.locator("output").inner_text() == f"2 of {every} rows"
    box.get_by_role("searchbox").fill("")
    assert len(column(box, 1)) == every


def until(shown, holds):
    """Waits; Playwright's own way needs an eval, which the page's policy forbids."""
    for _ in range(400):
        if holds():
            return
        shown.wait_for_timeout(25)
    pytest.fail("it did not come about in ten seconds")


def figure(shown, name):
    found = shown.locator(f'figure[data-chart="{name}"]')
    found.scroll_into_view_if_needed()
    until(shown, lambda: view(found.locator(".view").first, "Boolean(own.view)"))
    return found


def view(box, expression):
    """What an expression says of the panel in a box."""
    find = "drawings.flatMap(({ views }) => views).find((one) => one.box === box)"
    return box.evaluate(f"box => {{ const own = {find}; return {expression}; }}")


def place(box, name, index=0):
    """Where a point of a named line is on the screen."""
    return box.evaluate(
        """(box, [name, index]) => {
            const own = drawings.flatMap(({ views }) => views).find((one) => one.box === box);
            const line = own.panel.series.find((one) => one.name === name && one.kind === "line");
            const [left, top] = own.origin(), { x, y } = own.box.getBoundingClientRect();
            return [x + left + own.view.scale("x")(line.x[index]), y + top + own.view.scale("y")(line.y[index])];
        }""",
        [name, index],
    )


ENDS = "[...own.view.scale('x').domain(), ...own.view.scale('y').domain()]"
SEEN = "[...new Set(own.points().map(({ row }) => own.panel.series[row.s].name))]"


def middle(box):
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_hovering_shows_values(shown):
    box = figure(shown, "against_d").locator(".view").first
    box.scroll_into_view_if_needed()
    shown.mouse.move(*place(box, "ℓ1", 1))
    box.locator(".tip").wait_for()
    said = box.locator(".tip > *").all_inner_texts()
    assert said[:2] == ["ℓ1", "dimension d: 20"]
    assert re.fullmatch(r"θ\(w̄, w\*\): [\d.]+", said[2])
    assert re.fullmatch(r"shaded: [\d.]+ to [\d.]+", said[3])
    dot, marks = box.locator(".dot").bounding_box(), box.locator(".mark-symbol path")
    centers = [middle(marks.nth(i).bounding_box()) for i in range(marks.count())]
    assert min(np.hypot(*np.subtract(middle(dot), center)) for center in centers) < 1.5
    shown.mouse.move(0, 0)
    assert not box.locator(".tip").is_visible()


def test_dragging_zooms_and_a_button_resets(shown):
    found = figure(shown, "tradeoff")
    view_box = found.locator(".view").first
    view_box.scroll_into_view_if_needed()
    whole = view(view_box, ENDS)
    labels = view_box.locator(".role-axis-label").all_text_contents()
    box = view_box.bounding_box()
    shown.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.3 * box["height"])
    shown.mouse.down()
    shown.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"], steps=4)
    assert view_box.locator(".lens").is_visible()
    shown.mouse.up()
    until(shown, lambda: view(view_box, ENDS) != whole)
    part = view(view_box, ENDS)
    assert whole[0] < part[0] < part[1] < whole[1]
    assert whole[2] < part[2] < part[3] < whole[3]
    assert view_box.locator(".role-axis-label").all_text_contents() != labels
    found.get_by_role("button", name="Reset the zoom").click()
    until(shown, lambda: view(view_box, ENDS) == whole)
    found.get_by_role("button", name="Zoom in").click()
    until(shown, lambda: whole[0] < view(view_box, ENDS)[0])
    view_box.dblclick()
    until(shown, lambda: view(view_box, ENDS) == whole)


def test_keys_read_points_and_zoom(shown):
    box = figure(shown, "against_d").locator(".view").first
    box.focus()
    said = shown.locator("#said")
    shown.keyboard.press("ArrowRight")
    first = said.inner_text()
    shown.keyboard.press("ArrowRight")
    assert "dimension d: 10" in first
    assert "dimension d: 20" in said.inner_text()
    shown.keyboard.press("ArrowDown")
    assert "printed in the paper" in said.inner_text()
    whole = view(box, ENDS)
    shown.keyboard.press("+")
    until(shown, lambda: view(box, ENDS)[1] < whole[1])
    part = view(box, ENDS)
    shown.keyboard.press("Shift+ArrowRight")
    until(shown, lambda: view(box, ENDS)[0] > part[0])
    shown.keyboard.press("0")
    until(shown, lambda: view(box, ENDS) == whole)


def test_the_legend_hides_and_a_choice_changes_the_panels(shown):
    found = figure(shown, "cells")
    box = found.locator(".view").first
    lines = found.locator(".view").first.locator(".mark-line path")
    assert lines.count() == 3
    key = found.get_by_role("button", name="ℓ0", exact=True)
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    assert view(box, SEEN) == ["ℓ1", "Tℓ1, a = 1"]
    until(shown, lambda: lines.count() == 2)
    assert found.locator("h4").all_inner_texts() == ["d = 10", "d = 20"]
    found.get_by_label("Quantity").select_option("steps to the limit")
    found.get_by_label("Setting").select_option("k = 5")
    until(shown, lambda: view(found.locator(".view").first, "Boolean(own.view)"))
    assert "steps to the limit" in found.locator(".view").first.locator(".role-axis-title").all_text_contents()
    assert view(found.locator(".view").first, SEEN) == ["ℓ1", "Tℓ1, a = 1"]
    assert lines.count() == 2
    key.click()
    assert len(view(found.locator(".view").first, SEEN)) == 3


def test_the_command_is_copied(visit, made_up):
    shown = visit(made_up / "report.html", permissions=["clipboard-read", "clipboard-write"])
    button = shown.get_by_role("button", name="Copy")
    button.click()
    shown.get_by_role("button", name="Copied").wait_for()
    assert shown.evaluate("navigator.clipboard.readText()") == "python -m experiments sweep --seeds 40"
    assert shown.locator("#said").inner_text() == "Copied"
    button.wait_for()  # it says so for a while only


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_tables_in_their_boxes_not_the_page(visit, made_up, scheme):
    shown = visit(made_up / "report.html", color_scheme=scheme, **PHONE)
    for name in ("tradeoff", "distributions", "against_d", "against_k", "cells"):
        figure(shown, name)
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    assert not shown.locator("nav ol").is_visible()  # contents open when they are asked for
    wide = table(shown, "Table 1: ℓ0").locator(".scroll")
    assert wide.evaluate("box => box.getBoundingClientRect().right <= innerWidth && box.tabIndex === 0")
    box = figure(shown, "against_d").locator(".view").first
    assert box.evaluate("box => box.querySelector('svg').getBoundingClientRect().width > 250")
    box.tap()
    box.locator(".tip").wait_for()
    assert box.locator(".tip").evaluate("tip => tip.getBoundingClientRect().right <= innerWidth")


def test_the_dark_page_is_dark_with_light_text_and_lines(visit, made_up):
    shown = visit(made_up / "report.html", color_scheme="dark")
    drawn = figure(shown, "against_d")

    def stroke():
        """The colour of the line of ℓ0; None while the figure is drawn again."""
        find = "const path = own.querySelectorAll('.mark-line path')[1];"
        return drawn.evaluate(f"own => {{ {find} return path && getComputedStyle(path).stroke; }}")

    def colors(color):
        return [float(part) / 255 for part in re.findall(r"[\d.]+", color)[:3]]

    def brightness(color):
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colors(color)]
        return sum(np.multiply(parts, [0.2126, 0.7152, 0.0722]))

    def contrast():
        line, card = brightness(stroke()), brightness(drawn.evaluate("own => getComputedStyle(own).backgroundColor"))
        return (max(line, card) + 0.05) / (min(line, card) + 0.05)

    page, text = shown.evaluate("['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name])")
    assert brightness(page) < 0.02
    assert brightness(text) > 0.7
    dark = brightness(stroke())
    assert contrast() > 4.5
    shown.emulate_media(color_scheme="light")  # changed while the page is open
    until(shown, lambda: (now := stroke()) and brightness(now) < dark)
    assert contrast() > 4.5
    assert brightness(shown.evaluate("getComputedStyle(document.body).backgroundColor")) > 0.9


def test_records_beside_each_other(visit, made_up, make_record, tmp_path):
    out = tmp_path / "page.html"
    cli.main(["report", str(made_up), str(make_record("beside", seeds=25)), "--out", str(out), "--quiet"])
    shown = visit(out)
    boxes = figure(shown, "against_k").locator(".view svg")
    assert boxes.count() == 8
    (a, b), (x, y) = zip(*((box["y"], box["x"]) for box in (boxes.nth(i).bounding_box() for i in (0, 1))), strict=True)
    assert a == b
    assert x < y
    rows = shown.locator("#facts tbody tr:visible")
    every = rows.count()
    shown.get_by_label("only what differs").check()
    assert 0 < rows.count() < every
    assert rows.locator("th").all_inner_texts()[:1] == ["seeds"]


def test_without_scripts_words_and_tables_are_there(visit, made_up):
    shown = visit(made_up / "report.html", java_script_enabled=False)
    assert shown.locator("tbody tr").count() > 40
    assert shown.locator("noscript p").count() == 5
