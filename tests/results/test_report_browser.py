"""The report in a real browser: what a reader sees, clicks, hears and saves."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from tinyhil.results.record import Correctness, Failure
from tinyhil.results.reference import load_references
from tinyhil.results.report import BoardLimits, render_report

webdriver = pytest.importorskip("selenium.webdriver", reason="pip install 'tinyhil[test]'")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROME = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROME and DRIVER), reason="no browser: apt-get install chromium chromium-driver"
    ),
]
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
    " --disable-sync --no-first-run --hide-scrollbars"
)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROME
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


def sized(browser, width: int, dark: bool = False) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


@pytest.fixture
def page(browser, tmp_path, make):
    """The report of two networks, three engines, an error, a wrong output, history and references, opened."""
    records = [make(m, e, depth=8) for m in ("mlperf_kws", "te_vww") for e in ("tinyengine", "tflm")]
    records += [
        make("te_vww", "cmsis-nn", depth=8, correct=Correctness(False, 3, "tflite-micro", "00")),
        make("te_vww", mode="hardware", depth=8),
        make("huge", error=Failure("DoesNotFit", "needs 416 KiB of RAM"), instructions=None, cycles_est=None),
    ]
    records[0] = replace(
        records[0], memory=(replace(records[0].memory[0], name="<script>"), *records[0].memory[1:])
    )
    html = render_report(
        records,
        references=load_references(),
        history=[make(created=f"2026-11-{n:02d}") for n in range(1, 9)],
        limits={"stm32f746": BoardLimits(320 * 1024, 1024**2, 2.0)},
    )
    path = tmp_path / "report.html"
    path.write_text(html, "utf-8")
    sized(browser, 1200)
    browser.get_log("performance")
    browser.get(path.as_uri())
    return browser


def column(page, number: int, table: int = 0) -> list[str]:
    script = (
        "return [...document.querySelectorAll('table.sortable')[arguments[0]].tBodies[0].rows]"
        ".map(row => row.cells[arguments[1]].querySelector('.words').innerText.trim())"
    )
    return page.execute_script(script, table, number)


def heads(page) -> list:
    return page.find_elements(By.CSS_SELECTOR, "table.sortable:first-of-type thead th")[:8]


def text(page) -> str:
    return page.find_element(By.TAG_NAME, "body").text


def test_the_reader_sees_who_wins_what_failed_and_how_sure_we_are(page) -> None:
    seen = text(page)
    for words in (
        "Who wins",
        "bit-exact with the reference",
        "differs by 3",
        "DoesNotFit",
        "needs 416 KiB of RAM",
        "measured",
        "counted",
        "estimated",
        "The arena is",
        "published",
        "measured earlier",
    ):
        assert words in seen, words


def test_there_are_no_console_messages_and_no_requests(page) -> None:
    requests = [
        message["params"]["request"]["url"]
        for entry in page.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in requests if url.startswith("file:")]) == 1
    assert page.get_log("browser") == []


def test_a_tensor_called_script_is_text(page) -> None:
    assert "<script>" in page.find_element(By.ID, "mlperf-kws").text
    assert page.execute_script("return document.scripts.length") == 1


def test_a_click_sorts_and_another_click_turns_the_order(page) -> None:
    titles = [head.text.split("\n")[0] for head in heads(page)]
    number = titles.index("Instructions")
    button = heads(page)[number].find_element(By.TAG_NAME, "button")
    button.click()
    values = [float(v.split()[0]) for v in column(page, number) if v != "–"]
    assert values == sorted(values)
    assert column(page, number)[-2:] == ["–", "–"]
    assert heads(page)[number].get_attribute("aria-sort") == "ascending"
    button.click()
    values = [float(v.split()[0]) for v in column(page, number) if v != "–"]
    assert values == sorted(values, reverse=True)
    assert column(page, number)[-2:] == ["–", "–"]
    assert "descending" in page.find_element(By.ID, "announce").get_attribute("textContent")


def test_the_keyboard_alone_can_sort(page) -> None:
    body = page.find_element(By.TAG_NAME, "body")
    body.click()
    for _ in range(30):
        page.switch_to.active_element.send_keys(Keys.TAB)
        if page.switch_to.active_element.text == "Engine":
            break
    page.switch_to.active_element.send_keys(Keys.ENTER)
    names = column(page, 1)
    assert names == sorted(names)
    page.switch_to.active_element.send_keys(Keys.SPACE)
    assert column(page, 1) == sorted(names, reverse=True)


def test_figures_are_saved_as_svg_with_their_style_and_as_csv(page, tmp_path) -> None:
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    figure = page.find_element(By.CSS_SELECTOR, "#mlperf-kws figure")
    name = figure.get_attribute("data-name")
    for kind in ("svg", "csv"):
        page.execute_script(
            "arguments[0].click()", figure.find_element(By.CSS_SELECTOR, f"[data-download={kind}]")
        )
        until(lambda kind=kind: (tmp_path / f"{name}.{kind}").exists())
    root = ET.parse(tmp_path / f"{name}.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "--e0" in (root.findtext("{http://www.w3.org/2000/svg}style") or "")
    with (tmp_path / f"{name}.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head[0] == "layer"
    assert len(rows) == 8
    assert float(rows[0][1]) > 0


def until(done, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "the download did not come"
        time.sleep(0.05)


@pytest.mark.parametrize("width", [360, 800, 1200])
def test_the_page_is_never_wider_than_the_screen(page, width) -> None:
    sized(page, width)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


CONTRAST = Path(__file__).with_name("contrast.js").read_text("utf-8")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_has_the_contrast_that_readers_need(page, dark) -> None:
    sized(page, 1200, dark)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.execute_script(CONTRAST) == []


def test_a_screen_reader_gets_names_for_all_pictures_buttons_and_tables(page) -> None:
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    wanted = {"image", "button", "region", "link", "columnheader", "rowheader"}
    named: dict[str, int] = {}
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in wanted and not node.get("ignored"):
            assert node["name"]["value"].strip(), node
            named[role] = named.get(role, 0) + 1
    assert named["image"] == len(page.find_elements(By.CSS_SELECTOR, "svg.figure"))
    assert set(named) >= {"image", "button", "columnheader", "rowheader"}


def test_identifiers_are_unique_and_links_lead_somewhere(page) -> None:
    ids = page.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    links = page.execute_script("return [...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash)")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links} <= set(ids)


def test_without_its_script_the_page_shows_everything(page) -> None:
    with_script = text(page)
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.refresh()
        assert page.find_element(By.TAG_NAME, "main").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert text(page) == with_script


def test_screenshots_are_kept(page, tmp_path) -> None:
    folder = Path(os.environ.get("TINYHIL_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    for name, width, dark in (("desktop", 1200, False), ("dark", 1200, True), ("phone", 390, False)):
        sized(page, width, dark)
        page.save_screenshot(str(folder / f"report-{name}.png"))
        assert (folder / f"report-{name}.png").stat().st_size > 10_000
