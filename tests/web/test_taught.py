"""A model that is really taught and judged: a tiny one, from the page.

Only what both say of other videos comes from a fake: each would first be made ready to start at
once, which takes longer than all the rest.
"""

from dataclasses import replace

import pytest

from web.config import WebConfig
from web.teaching import train_command

from .browser import Person, chromium
from .fakes import COMMANDS, LONG
from .serving import serving

LIFELESS = ["--epochs", "1", "--views", "0", "--learning-rate", "1e-12"]  # it stays as it was


@pytest.fixture(scope="module")
def person(tmp_path_factory, tiny_model):
    data = tmp_path_factory.mktemp("data")
    commands = replace(COMMANDS, train=lambda *given: [*train_command(*given), *LIFELESS])
    browser = chromium()
    try:
        with serving(WebConfig(data, str(tiny_model), min_free=0), commands=commands) as url:
            yield Person(browser, url)
            browser.get("about:blank")
    finally:
        browser.quit()


def test_taught_judged_and_discarded(person, add, api, clips):
    """By videos, and by a stretch of one; what is no better is told so, and discarded."""
    red, blue = add(clips["red"] + LONG), add(clips["blue"])
    green = add(clips["green"])  # nobody corrects it
    for path, text in (
        (f"{red}/sentences/0", "A red ball rolls over the floor."),
        (f"{red}/sentences/2", "Something red floats by."),
        (f"{blue}/sentences/0", "The blue box is pushed to the wall."),
    ):
        api("PUT", f"/videos/{path}", {"text": text})
    person.go("/teaching")
    person.see(".big", "3")
    person.click("#teach")
    person.see("h2", "is ready", seconds=900)  # on a machine that has much else to do
    person.see(".pill.bad", "Not better")
    model = api("GET", "/models/2")
    assert not model["judgement"]["is_better"]
    assert model["judgement"]["before"] == model["judgement"]["after"]
    judged = {
        (pair["video"], pair["end"] is None) for pair in model["comparison"] if "wanted" in pair
    }
    assert judged == {(red, True), (red, False), (blue, True)}
    [other] = [pair for pair in model["comparison"] if "wanted" not in pair]
    assert other["video"] == green
    assert other["old"] == other["new"]
    person.see(".pairs td", "The same")
    assert person.faults() == []
    metrics = {"width": 320, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    person.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert person.wait("document.documentElement.scrollWidth <= innerWidth")
    person.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert [link.text for link in person.all(".ready a[href$='/report']")] == ["Training report"]

    # Discarded by the main button, put back, discarded again and deleted for good.
    person.click(".ready .main", "Discard it")
    person.see("#notices", "taught-2 is discarded.")
    person.wait("!document.querySelector('.ready')")
    person.click("#notices button", "Undo")
    person.click(".ready .main", "Discard it")
    person.see(".models .pill", "Discarded")
    person.click(".models button", "Delete for good")
    person.see("#sure h2", "Delete taught-2 for good?")
    person.click("#sure button[value=yes]")
    person.wait("!document.querySelector('[data-delete]')")
    person.see(".models .pill", "In use")
    assert [row["name"] for row in api("GET", "/models")["models"]] == ["tiny"]
    assert person.complaints() == []
