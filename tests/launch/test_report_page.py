"""The report in a real browser: nothing is fetched, nothing is refused, and the page works."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch.flags import build, to_json
from launch.report import gather, render
from search.journal import CandidateRow, Journal
from search.outcome import Outcome, Trial
from search.schema import ProposalRow
from spaces.grid import grid

EVIL = "<script>document.title = 'broken'</script><img src=x onerror=alert(1)>"
COUNT = 45
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def write_run(folder: Path) -> Path:
    """A controller's run with every section of the page; its third function has an evil name."""
    folder.mkdir()
    asked = {"trials": COUNT, "dataset": "cifar10", "core_units": 2}
    (folder / "config.json").write_text(json.dumps(to_json(*build(asked))))
    journal = Journal.create(folder, {"operators_sha256": "abc"})
    x = grid()
    with journal.transaction():
        for number in range(1, COUNT + 1):
            slope = number / COUNT
            curve = np.stack([x * slope, np.full_like(x, slope)]).astype(np.float32)
            text = f"mul(x, {'sigmoid' if number % 2 else 'tanh'}(scale{number}(x)))"
            plain, latex = f"x · σ({number}x)", rf"x \cdot \sigma\left({number} x\right)"
            if number == 3:
                text, plain, latex = f"add(x, {EVIL}(x))", EVIL, EVIL
            if number == 4:
                latex = (
                    r"\frac{\exp\left(-\beta_{1}\left|x + \operatorname{a}\left(x\right)\right|\right)}{"
                    + r" + ".join(["x^{2}"] * 30)
                    + "}"
                )
            name = EVIL if number == 3 else "Swish" if number == 1 else None
            journal.add_candidate(
                CandidateRow(number, text, plain, latex, name, "ok", "", None, None, curve)
            )
            journal.add_proposal(ProposalRow(number - 1, number, (0, 0), {}))
            journal.add_trial(Trial(number, number, text, 0, 0, number == 1))
            beta = {"layer": EVIL if number == 3 else "act", "operator": "scale", "param": "beta",
                    "slot": 1, "mean": 1.0, "std": 0.1, "min": 0.5, "max": 1.5}  # fmt: skip
            outcome = Outcome("ok", 0.9 - 0.01 * number, 0.1 * number, 1.0, {"beta": [beta]})
            if number > 40:
                outcome = Outcome("diverged", details={"reason": f"{EVIL} at step {number}"})
            journal.add_outcome(number, outcome)
            if number % 10 == 0:
                told = {"entropy": 5.0 - 0.1 * number, "baseline": 0.5, "mean_reward": 0.4}
                rows = [[0.5, 0.5], [0.2, 0.8]]
                names = {"choices": [["tanh", EVIL], ["add", "mul"]]}
                journal.put_snapshot(number, b"", {**told, "probabilities": rows, **names})
    journal.close()
    return folder


def chromium() -> Any:
    """Playwright and the path of the browser; skips, or fails where a peer is required."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    reason = "chromium is not installed" if path is None else ""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        reason, sync_playwright = "playwright is not installed", None
    if reason:
        if os.environ.get("ACTSEARCH_REQUIRE_PEERS"):
            pytest.fail(f"ACTSEARCH_REQUIRE_PEERS is set and {reason}")
        pytest.skip(reason)
    return sync_playwright, path


@pytest.fixture(scope="module")
def browser():
    start, path = chromium()
    with start() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("report") / "run")
    other = gather(folder)
    path = folder / "report.html"
    path.write_bytes(render({**gather(folder, [folder]), "title": EVIL}))
    assert other["counts"]["ranked"] == 40
    return path.as_uri()


@pytest.fixture
def page_at(browser, address):
    """Opens the page; afterwards nothing may have been complained of or asked for."""
    complaints: list[str] = []
    requests: list[str] = []
    contexts = []

    def open_page(*, width=1280, height=900, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error(e.violatedDirective))"
        )
        page.goto(address)
        page.wait_for_selector("html[data-ready]", state="attached")
        page.wait_for_function(
            "() => document.querySelectorAll('.js-plotly-plot .main-svg').length > 8"
        )
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:image/png")} == {address}


def ranks(page) -> list[str]:
    return page.locator("#ranking tr.row td.rank").all_inner_texts()


def test_every_section_draws(page_at):
    page = page_at()
    for name in ("found", "shapes", "course", "strategy", "operators", "beta", "rest", "asked"):
        assert page.locator(f"#{name}").is_visible()
    for plot in ("shape-f", "shape-slope", "course-plot", "decision-plot", "unary-plot",
                 "binary-plot", "pair-plot", "beta-plot"):  # fmt: skip
        assert page.locator(f"#{plot} .plot-container").count() == 1, plot
    assert page.locator("#shape-f .scatterlayer .trace").count() >= 11
    assert page.locator("#ranking math").count() >= 19
    assert "history_sha256" in page.locator("#asked").inner_text()


def test_sorting_and_pages(page_at):
    page = page_at()
    assert ranks(page) == [str(n) for n in range(1, 21)]
    page.get_by_role("button", name="Next page").first.click()
    assert ranks(page) == [str(n) for n in range(21, 41)]
    loss = page.locator("#ranking th button", has_text="loss")
    loss.click()
    assert ranks(page)[0] == "1" and loss.locator("..").get_attribute("aria-sort") == "ascending"
    loss.click()
    assert ranks(page)[:2] == ["40", "39"]
    page.locator("#ranking th button", has_text="accuracy").click()
    assert ranks(page)[0] == "1"


def test_filtering(page_at):
    page = page_at()
    page.get_by_placeholder("Filter by formula, operator or name").fill("scale37")
    assert ranks(page) == ["37"]
    page.get_by_placeholder("Filter by formula, operator or name").fill("baseline")
    assert ranks(page) == ["1"]
    page.get_by_placeholder("Filter by formula, operator or name").fill("no such thing")
    assert ranks(page) == [] and page.get_by_text("Nothing matches.").first.is_visible()


def test_a_row_opens_with_the_text_to_copy(page_at):
    page = page_at()
    page.locator("#ranking tr.row").nth(4).click()
    assert "mul(x, sigmoid(scale5(x)))" in page.locator("#ranking tr.detail").inner_text()


def test_markup_in_names_stays_text(page_at):
    page = page_at()
    assert page.locator("h1").inner_text() == EVIL
    assert EVIL in page.locator("#ranking tr.row").nth(2).inner_text()
    page.locator("#decision-controls select").select_option(index=0)
    page.locator("#beta-controls select").select_option(index=2)
    assert EVIL in page.locator("#rest-table").inner_text()
    assert page.locator("main img, main script").count() == 0
    assert page.title() != "broken"


def test_pointing_at_a_function_shows_it(page_at):
    page = page_at()
    shown = page.locator("#shape-legend")
    before = shown.inner_text()
    page.locator(".card").nth(6).hover()
    page.wait_for_function(
        "before => document.querySelector('#shape-legend').innerText !== before", arg=before
    )
    page.locator(".card").nth(6).click()
    assert page.locator(".card[aria-pressed=true]").count() == 2  # with the baseline


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_on_a_phone(page_at, scheme):
    page = page_at(width=390, height=844, scheme=scheme)
    page.locator("#ranking tr.row").nth(3).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.formula, svg') && "
        "e.getBoundingClientRect().right > 391).map(e => e.tagName + '.' + e.className)"
    )
    assert wide == []


def test_plots_follow_the_colour_scheme(page_at):
    page = page_at()
    colour = "() => getComputedStyle(document.querySelector('#course-plot .xtick text')).fill"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"before => ({colour})() !== before", arg=light)
