"""The page in a real browser: Chromium, headless, driven from its keyboard."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from bise import Client
from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.loading import Loading
from bise_daemon.models.model import Model, load_model
from daemon.http.conftest import HTTP
from running import RunningDaemon, running

pytestmark = pytest.mark.slow

_PATIENCE_S = 30
_NOTHING_YET = "\N{EN DASH}"
_DESKTOP, _PHONE = (1280, 800), (390, 844)


class Gated:
    """A session whose decode steps wait while the gate is shut."""

    def __init__(self, model: Model, gate: threading.Event) -> None:
        self._session = model.session
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def decode(self, *args: Any) -> Any:
        assert self._gate.wait(_PATIENCE_S)
        return self._session.decode(*args)


@pytest.fixture(scope="module")
def gate() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate


@pytest.fixture(scope="module")
def daemon(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, gate: threading.Event
) -> Iterator[RunningDaemon]:
    def load(config: DaemonConfig, loading: Loading) -> Model:
        model = load_model(config, loading)
        return replace(model, session=Gated(model, gate))  # type: ignore[arg-type]  # as much as the engine needs

    # A guess would be no decode step.
    with running(tiny_bundle, tmp_path_factory.mktemp("daemon"), load=load, draft_tokens=0, http=HTTP) as daemon:
        with Client(daemon.address) as client:
            client.wait_until_serving()
        yield daemon


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("THE PAGE IS NOT TESTED: there is no Chromium. apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


class Page:
    """What a person sees and does."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def content(self, selector: str) -> str:
        """Its text, shown or not."""
        return str(self.find(selector).get_property("textContent"))

    def press(self, *keys: str) -> None:
        """Keys, wherever the focus is."""
        self.browser.switch_to.active_element.send_keys(*keys)

    def wait(self, true: Callable[[], object]) -> None:
        WebDriverWait(self.browser, _PATIENCE_S, poll_frequency=0.02).until(lambda _: true())

    def wait_for_answer(self) -> None:
        self.wait(lambda: self.find("#stop").get_attribute("disabled"))


@pytest.fixture(params=[_DESKTOP, _PHONE], ids=["desktop", "phone"])
def page(browser: webdriver.Chrome, daemon: RunningDaemon, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height = request.param
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert daemon.http is not None
    browser.get(f"{daemon.http}/")
    page = Page(browser)
    page.wait(lambda: page.text("#state") == "serving")
    browser.get_log("browser")  # begins anew
    yield page
    # A violation of the policy would be here, too; a refusal is no fault of the page's.
    complaints = [each["message"] for each in browser.get_log("browser") if "429" not in each["message"]]
    assert complaints == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_a_message_is_sent_and_its_answer_streamed(page: Page, daemon: RunningDaemon, gate: threading.Event) -> None:
    gate.clear()
    try:
        page.press("Hello", Keys.ENTER)
        # The prompt is computed and its first token is here, while the second has to wait.
        page.wait(lambda: page.text(".assistant .text"))
        begun = page.text(".assistant .text")
        assert page.find(".assistant").get_attribute("class") == "turn assistant waiting"
        assert page.content("#first-predicted").endswith(" ms")
    finally:
        gate.set()
    page.wait_for_answer()
    with Client(daemon.address) as client:
        answer = client.chat("Hello")
    assert page.content(".assistant .text") == answer.text
    assert answer.text.startswith(begun)
    assert f"{answer.usage.completion_tokens} tokens in " in page.text(".assistant .note")
    assert "tokens" in page.text("#used")
    assert page.browser.switch_to.active_element == page.find("#prompt")


@pytest.mark.parametrize("way", ["Escape", "Stop"])
def test_an_answer_can_be_stopped(page: Page, daemon: RunningDaemon, gate: threading.Event, way: str) -> None:
    with Client(daemon.address) as client:
        before = client.status().requests_cancelled
        gate.clear()
        try:
            page.press("Hello", Keys.ENTER)
            page.wait(lambda: page.text(".assistant .text"))
            if way == "Escape":
                page.press(Keys.ESCAPE)
            else:
                page.press(Keys.TAB)  # Send is disabled meanwhile
                assert page.browser.switch_to.active_element == page.find("#stop")
                page.press(Keys.ENTER)
            page.wait_for_answer()
            assert page.text(".assistant .note") == "stopped"
        finally:
            gate.set()
        for status in client.watch_status(interval=0.1, timeout=_PATIENCE_S):
            if status.slots_used == 0:
                break
        assert client.status().requests_cancelled == before + 1
    page.press("Go on", Keys.ENTER)
    page.wait_for_answer()
    assert len(page.browser.find_elements(By.CSS_SELECTOR, ".turn")) == 4


def test_a_refusal_is_shown_with_its_numbers(page: Page) -> None:
    toggle = page.find("#toggle")
    if toggle.is_displayed():
        toggle.send_keys(Keys.ENTER)
        assert toggle.get_attribute("aria-expanded") == "true"
    page.find("#first").send_keys("1")
    assert page.find("#refusals").is_displayed()
    if toggle.is_displayed():
        toggle.send_keys(Keys.ENTER)
    message = "one two three " * 6
    page.find("#prompt").send_keys(message, Keys.ENTER)
    page.wait(lambda: page.browser.find_elements(By.CSS_SELECTOR, ".refused"))
    assert "first_token_ms" in page.text(".refused .text")
    assert page.text(".refused .note").startswith("BUDGET.")
    assert "BUDGET" in page.content("#refusals")
    # What was refused is there to be sent again.
    assert page.find("#prompt").get_property("value") == message.strip()


def test_what_is_written_is_text_and_nothing_else(page: Page) -> None:
    page.press("<img src=x onerror=alert(1)><b>bold</b>", Keys.ENTER)
    page.wait_for_answer()
    assert page.text(".user .text") == "<img src=x onerror=alert(1)><b>bold</b>"
    assert page.browser.find_elements(By.CSS_SELECTOR, "#log img, #log b, #log script") == []


def test_the_policy_lets_no_other_script_in(page: Page) -> None:
    blocked = page.browser.execute_async_script(
        """
        const done = arguments[0];
        document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
        document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='done()'>");
        """
    )
    assert blocked in ("script-src-attr", "img-src")
    page.browser.get_log("browser")  # the complaint that this was about


def test_every_field_has_a_name_and_every_gauge_says_something(page: Page) -> None:
    unnamed = """return [...document.querySelectorAll("input, select, textarea, button, meter")]
        .filter((each) => !each.labels?.length && !each.ariaLabel && !each.textContent).length"""
    assert page.browser.execute_script(unnamed) == 0
    page.wait(lambda: page.content("#memory") != _NOTHING_YET)
    shown = page.browser.find_elements(By.CSS_SELECTOR, "dd, dt span")
    assert _NOTHING_YET not in [each.get_property("textContent") for each in shown]
