"""Headless Chromium, a person before it, and axe-core in it."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")


@cache
def find_programs(names, packages):
    """Where programs are, or why they are not; Debian's `packages` are installed if we may."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    reason = f"not here: {' '.join(names)}; apt-get install {packages}"
    missing = not all(shutil.which(name, path=path) for name in names)
    if missing and shutil.which("apt-get") and os.geteuid() == 0:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in ("update", f"install --no-install-recommends {packages}"):
            done = subprocess.run(
                ["apt-get", "-qq", "-y", *command.split()],
                capture_output=True, text=True, timeout=600, env=environment,
            )  # fmt: skip
            if done.returncode:
                reason = f"{reason}, which failed: {done.stderr.strip()[-300:]}"
    found = tuple(shutil.which(name, path=path) for name in names)
    return found if all(found) else reason


def chromium(width=1280, height=900):
    """A headless Chromium; skips the test where there is none."""
    found = find_programs(("chromium", "chromedriver"), "chromium chromium-driver")
    if isinstance(found, str):
        pytest.skip(found)
    binary, driver = found
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--force-prefers-reduced-motion",
        f"--window-size={width},{height}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


class Person:
    """Somebody before the browser."""

    def __init__(self, browser, url):
        self.browser, self.url = browser, url

    def go(self, path):
        self.browser.get(self.url + path)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def see(self, selector, text="", seconds=20):
        """Waits for an element that is shown and has this text."""

        def found(_):
            return next(
                (
                    element
                    for element in self.all(selector)
                    if element.is_displayed() and text in element.text
                ),
                None,
            )

        until = WebDriverWait(
            self.browser, seconds, 0.05, ignored_exceptions=[StaleElementReferenceException]
        )
        try:
            return until.until(found)
        except TimeoutException as err:
            page = self.all("main")[0].text if self.all("main") else "nothing"
            url, said = self.browser.current_url, self.complaints()
            raise AssertionError(f"no {selector} with {text!r} at {url}: {page} {said}") from err

    def click(self, selector, text=""):
        """Clicks what is seen; once more if it was swapped at that moment."""
        try:
            self.see(selector, text).click()
        except StaleElementReferenceException:
            self.see(selector, text).click()

    def wait(self, script, *arguments, seconds=20):
        """Waits until a JavaScript expression is true."""
        until = WebDriverWait(self.browser, seconds, 0.05)
        return until.until(lambda b: b.execute_script(f"return {script}", *arguments), script)

    def faults(self):
        """What axe-core finds serious on this page."""
        self.browser.execute_script(AXE)
        found = self.browser.execute_async_script(
            "axe.run({resultTypes: ['violations']}).then(arguments[0])"
        )
        return [
            (fault["id"], [node["html"][:120] for node in fault["nodes"]])
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]

    def complaints(self):
        """What the browser's console says: errors, and what the policy forbade."""
        return [
            line["message"] for line in self.browser.get_log("browser") if line["level"] == "SEVERE"
        ]
