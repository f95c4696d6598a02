"""The report in a real browser: nothing on the console, no request, phone and desktop, light and dark, for everybody."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from sessions.compare import compare, take_side
from sessions.reader import SessionReader
from sessions.report.facts import gather
from sessions.report.page import comparison_page, report_page
from tests.sessions.made import write_session
from tests.sessions.test_report import HOSTILE, KNOWN, TRIALS, hostile_session

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
DEMO = Path(__file__).parents[1] / "data" / "demo.trtune"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium: apt install chromium chromium-driver"),
]

SIZES = {"desktop": (1280, 900), "phone": (375, 812), "small phone": (320, 640)}
CHECK = """
axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"], resultTypes: ["violations"]}).then(
  (told) => told.violations.map((each) => [each.id, each.nodes[0].html.slice(0, 200), each.nodes[0].failureSummary]), String)
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium whose console and network are watched."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_script_timeout(120)
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports as they are handed on: a full one, the demo's, a hostile one, a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    session = write_session(folder / "made.trtune", TRIALS)
    texts = {}
    for name, path in (
        ("full", session),
        ("demo", DEMO),
        ("hostile", hostile_session(folder / "hostile.trtune", HOSTILE)),
    ):
        with SessionReader(path) as reader:
            computed = KNOWN if name == "full" else {}
            texts[name] = report_page(gather(reader, computed=computed, exports={"Command": "serve \\\n  --now"}))
    with SessionReader(session) as reader:
        texts["comparison"] = comparison_page(
            compare([take_side(reader, 0), take_side(reader, 1), take_side(reader, 2)])
        )
    written = {}
    for name, text in texts.items():
        written[name] = folder / f"{name}.html"
        written[name].write_text(text, encoding="utf-8")
    return written


def show(browser: Any, page: Path, size: str = "desktop", scheme: str = "light") -> None:
    width, height = SIZES[size]
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get_log("performance")
    browser.get(page.as_uri())


@pytest.mark.parametrize("name", ["full", "demo", "hostile", "comparison"])
def test_nothing_goes_wrong_and_nothing_is_fetched(browser: Any, pages: dict[str, Path], name: str) -> None:
    show(browser, pages[name])
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")

    asked = [
        entry["message"] for entry in browser.get_log("performance") if 'Network.requestWillBeSent"' in entry["message"]
    ]
    assert browser.get_log("browser") == []
    assert len(asked) == 1, asked  # the page itself
    assert browser.execute_script("return document.querySelectorAll('script').length") == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["full", "demo", "hostile", "comparison"])
def test_the_page_is_never_wider_than_the_window(browser: Any, pages: dict[str, Path], name: str, size: str) -> None:
    show(browser, pages[name], size)

    width, inner = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")

    assert (width, inner) == (SIZES[size][0], SIZES[size][0])


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [
        ("full", "desktop", "light"),
        ("full", "desktop", "dark"),
        ("full", "phone", "light"),
        ("demo", "phone", "dark"),
        ("comparison", "desktop", "dark"),
    ],
)
def test_everybody_can_read_it(browser: Any, pages: dict[str, Path], name: str, size: str, scheme: str) -> None:
    """axe-core finds nothing: labels, contrast, order, names of controls."""
    show(browser, pages[name], size, scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    # Through the protocol, as an extension would: the page's own policy lets no foreign script in.
    axe = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})
    told = browser.execute_cdp_cmd(
        "Runtime.evaluate", {"expression": CHECK, "awaitPromise": True, "returnByValue": True}
    )

    assert told["result"].get("value") == []


def test_dark_pages_are_dark(browser: Any, pages: dict[str, Path]) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        show(browser, pages["full"], scheme=scheme)
        backgrounds.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))

    assert backgrounds == ["rgb(255, 255, 255)", "rgb(18, 21, 26)"]


def test_a_point_tells_itself_to_pointer_and_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["full"])
    chart = next(
        svg
        for svg in browser.find_elements(By.CSS_SELECTOR, "svg[data-points]")
        if svg.is_displayed() and (svg.get_attribute("aria-label") or "").startswith("Throughput against load")
    )

    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    ActionChains(browser).move_to_element(chart).perform()
    told = browser.execute_script("const tip = document.querySelector('.tip'); return tip.hidden ? '' : tip.innerText")
    assert "output tokens/s: " in told

    chart.send_keys(Keys.ARROW_RIGHT)
    spoken = browser.execute_script("return document.querySelector('[role=status]').textContent")
    assert "output tokens/s: " in spoken


def test_trials_are_sorted_and_filtered(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.by import By

    def shown() -> list[str]:
        rows = browser.find_elements(By.CSS_SELECTOR, "#trials tbody tr")
        return [row.find_elements(By.CSS_SELECTOR, "th, td")[0].text for row in rows if row.is_displayed()]

    show(browser, pages["full"])
    assert shown() == ["0", "1", "2"]

    score = browser.find_element(By.XPATH, "//table[@id='trials']//th[4]//button")
    browser.execute_script("arguments[0].click()", score)
    assert shown() == ["0", "2", "1"]
    browser.execute_script("arguments[0].click()", score)
    assert shown() == ["1", "2", "0"]

    browser.find_element(By.ID, "filter").send_keys("baseline")
    assert shown() == ["0"]


def test_a_hostile_page_runs_nothing(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["hostile"])

    assert browser.execute_script("return document.images.length") == 0
    assert browser.execute_script("return document.body.innerText.includes('alert(1)')")
    # Even a script that got in would not run.
    browser.execute_script(
        "const script = document.createElement('script'); script.textContent = 'window.ran = true';"
        "document.body.append(script)"
    )
    assert browser.execute_script("return window.ran === undefined")
    browser.get_log("browser")
