"""A person's way through the page, in a real browser with the real processes behind it."""

import json
import re
from dataclasses import replace

import pytest
import requests
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from web.config import WebConfig

from .browser import Person, chromium
from .conftest import draw
from .fakes import label_folder
from .serving import serving


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    browser = chromium()
    config = WebConfig(data=tmp_path_factory.mktemp("data"), min_free=0, max_piece=4096)
    try:
        with serving(config) as url:
            yield Person(browser, url)
            browser.get("about:blank")
    finally:
        browser.quit()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "words.mp4").write_text("<script>document.title = 'broken'</script> not a video")
    (folder / "empty.mp4").touch()
    for colour in ("red", "blue"):
        draw(folder / f"{colour}.webm", colour)
    return folder


def test_from_the_first_video_to_an_own_model(person, files):
    """One after the other, as a person would; each step needs the ones before."""
    # An empty page says what to do.
    person.go("/")
    person.see("h2", "Drop videos here")
    person.see("h2", "Correct and teach")
    assert person.faults() == []

    # Two clips, and two files that are none.
    names = ("red.webm", "blue.webm", "words.mp4", "empty.mp4")
    shown = "window.seen = []; new MutationObserver(() => document.querySelectorAll('progress')"
    person.browser.execute_script(
        f"{shown}.forEach((bar) => window.seen.push(bar.value))).observe("
        "document.getElementById('uploads'), {subtree: true, childList: true, characterData: true})"
    )
    person.all("#files")[0].send_keys("\n".join(str(files / name) for name in names))
    person.see("#uploads .problem", "neither a video")
    person.see("#uploads .problem", "is empty")
    person.see(".card.done .sentence", "A red ball rolls over the floor.")
    person.see(".card.done .sentence", "A blue ball rolls over the floor.")
    assert person.wait("window.seen.some((share) => share > 0 && share < 1)")
    person.wait("document.getElementById('spoken').textContent.includes('ball')")
    assert len(person.all(".card")) == 2
    assert person.faults() == []

    # A video's page: it plays, with its sentence as a track.
    person.click(".card.done .sentence", "red")
    person.see("#sentence", "A red ball rolls over the floor.")
    person.wait("document.querySelector('video').readyState >= 2")
    person.wait("document.querySelector('video').textTracks[0].cues?.length === 1")
    text = "document.querySelector('video').textTracks[0].cues[0].text"
    assert person.wait(text) == "A red ball rolls over the floor."
    person.browser.execute_script("document.querySelector('video').muted = true")
    person.all(".frame")[2].click()
    assert person.wait("document.querySelector('video').currentTime") > 0.5
    assert person.faults() == []

    # It is captioned again with words that are asked for, and without.
    person.click("#asked summary")
    person.see("#mention").send_keys("zzyzx")
    person.see("#start-with").send_keys("the big", Keys.ENTER)
    person.see("#notices .failure", "lacks what to mention: zzyzx")
    assert person.faults() == []
    person.see("#mention").clear()
    Select(person.see("#style")).select_by_visible_text("photo")
    person.see("#avoid").send_keys("woman, man", Keys.ENTER)
    person.see("#sentence", "the big red ball rolls over the floor.")
    assert person.all("#avoid")[0].get_attribute("value") == "woman, man"
    assert person.all("#style")[0].get_attribute("value") == "photo"
    person.click("#retry")
    person.see("#sentence", "A red ball rolls over the floor.")

    # A word shows where it looked, pointed at or walked to.
    opacity = "+getComputedStyle(document.querySelectorAll('.regions')[{}].children[{}]).opacity"
    word = person.all(".words:not([hidden]) .word")[1]
    ActionChains(person.browser).move_to_element(word).perform()
    person.see("#looked-at", "“red” looked most at")
    person.wait(f"{opacity.format(1, 1)} === 0 && {opacity.format(0, 0)} > 0.5")
    ActionChains(person.browser).move_to_element(person.all("h1")[0]).perform()
    person.wait(f"{opacity.format(0, 0)} === 0")
    word.send_keys(Keys.ENTER)  # holds it
    person.wait(f"{opacity.format(0, 0)} > 0.5")
    Select(person.all("#which")[0]).select_by_index(1)
    person.see(".words .word", "something")

    # A sentence is corrected with the keyboard alone, and another taken from the list.
    person.see("#edit").send_keys(Keys.ENTER)
    box = person.see("#text")
    assert person.browser.switch_to.active_element == box
    box.send_keys("x", Keys.ESCAPE)
    person.see("#sentence", "A red ball rolls over the floor.")
    person.see("#edit").send_keys(Keys.ENTER)
    person.see("#text").clear()
    person.see("#text").send_keys("A crimson square <b>slides</b> by.", Keys.ENTER)
    person.see("#sentence", "A crimson square <b>slides</b> by.")
    person.see("#sentences .pill.good", "Corrected by hand")
    person.go("/")
    person.click(".card .sentence", "A blue ball")
    person.click(".take")
    person.see("#sentence", "Something blue floats by.")

    # It is found again.
    person.go("/")
    person.all("#q")[0].send_keys("crims", Keys.ENTER)
    person.see(".hits mark", "crimson")
    assert len(person.all(".card")) == 1
    assert person.faults() == []
    person.go("/?q=elephant")
    person.see(".empty", "Nothing found")

    # All is taken away.
    person.go("/")
    person.click("#all")
    person.see("#selected", "2 selected")
    rows = person.browser.execute_async_script(
        "const done = arguments[0], form = document.getElementById('export');"
        "form.dispatchEvent(new Event('submit'));"
        "const query = new URLSearchParams(new FormData(form)); query.set('format', 'jsonl');"
        "fetch(form.action + '?' + query).then((answer) => answer.text()).then(done)"
    )
    said = {json.loads(row)["caption"] for row in rows.splitlines()}
    assert said == {"A crimson square <b>slides</b> by.", "Something blue floats by."}

    # A model is taught, compared and adopted.
    person.go("/teaching")
    person.see(".big", "2")
    person.click("#teach")
    person.see("h2", "is ready")
    person.see(".pairs td", "ball rolls over the floor.")
    assert person.faults() == []
    person.click("button", "Use the new model")
    person.see(".models .pill", "In use")
    person.click("#recaption")
    person.see("#notices", "2 videos are captioned again")
    person.see("button", "Use this one")  # the earlier one
    person.click(".models button", "Rename")
    person.see("#model-name").clear()
    person.see("#model-name").send_keys("My squares", Keys.ENTER)
    person.see(".models b", "My squares")
    person.go("/")
    person.see(".card.done .meta", "Corrected")
    person.wait("document.querySelectorAll('.card.done').length === 2")
    person.click(".card .sentence")
    person.see(".facts", "My squares")

    # It is taken back, and what it said, by one press each.
    person.go("/teaching")
    person.click("button", "Use this one")
    person.see("#notices", "default is in use.")
    person.click("#take-back", "Put back what default said")
    person.see("#notices", "2 videos are put back.")
    assert person.faults() == []
    person.go("/")
    person.click(".card .sentence")
    person.see(".facts", "default")

    # And deleted: one on its page, the other in the library.
    person.click("#delete")
    person.click("#sure button[value=no]")
    person.click("#delete")
    person.click("#sure button[value=yes]")
    person.see(".card")
    assert len(person.all(".card")) == 1
    person.click("#all")
    person.click("#delete")
    person.click("#sure button[value=yes]")
    person.see("h2", "Drop videos here")
    person.see("#notices", "Deleted 1 video.")

    refused = re.compile("415|/retry .* 422 ")  # what was tried above
    assert [text for text in person.complaints() if not refused.search(text)] == []


def test_a_timeline_that_seeks(person, files, tmp_path, monkeypatch):
    """By pointer and by keyboard alone; and labels that come leave the player alone."""
    hold = tmp_path / "hold"
    monkeypatch.setenv("FAKE_HOLD", str(hold))  # so that what is being done is seen
    browser, current = person.browser, "document.querySelector('video').currentTime"
    config = WebConfig(data=tmp_path / "data", min_free=0)
    config = replace(config, label_model=label_folder(tmp_path / "moments", multi_label=True))
    with serving(config) as url:
        person = Person(browser, url)
        person.go("/")
        person.all("#files")[0].send_keys(str(files / "red.webm"))
        person.click(".card.done .sentence", "red")
        person.see(".segment", "moves")
        assert [row.get_attribute("aria-label") for row in person.all(".track")] == [
            f"{label} over time" for label in ("red", "late", "moves")
        ]
        assert person.faults() == []
        late = person.see(".segment", "late")
        assert late.accessible_name == late.get_attribute("title")
        assert late.accessible_name == "late, 0:00.8 to 0:01.6, 50 % probable"
        browser.execute_script("document.querySelector('video').muted = true")
        assert person.wait(f"{current} === 0")
        late.click()
        assert person.wait(current) > 0.75
        person.wait("parseFloat(document.querySelector('.playhead').style.left) > 45")
        person.see(".legend .now", "late")

        # One row of bars is one stop; the arrows go on from there.
        person.browser.execute_script("document.querySelector('video').pause()")
        browser.execute_script(f"{current} = 1.5; document.querySelector('video').kept = true")
        person.all(".track")[0].find_element("css selector", ".segment").send_keys(Keys.ENTER)
        person.wait(f"{current} < 0.7")
        red = browser.switch_to.active_element
        red.send_keys(Keys.END)
        assert browser.switch_to.active_element == red  # the only one of its row
        person.click("summary", "As a list")
        person.click(".timeline .seek", "0:00.8")
        assert person.wait(f"{current} > 0.75 && {current}") > 0.75

        hold.touch()
        person.click("#label")
        person.see(".timeline .notice")
        hold.unlink()
        person.see("#label", "Label again")
        assert person.wait("document.querySelector('video').kept")

        # In one row, at a phone's width.
        label_folder(tmp_path / "moments")
        browser.get("about:blank")  # before the server goes
    with serving(config) as url:
        person = Person(browser, url)
        metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        person.go("/")
        person.click(".card.done .sentence", "red")
        person.click("#label")
        person.wait("document.querySelectorAll('.track').length === 1")
        assert len(person.all(".segment")) == 2
        person.all(".segment")[0].send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        focused = browser.switch_to.active_element
        assert focused.text == "late"
        focused.send_keys(Keys.ENTER)
        assert person.wait(f"{current} > 0.75 && {current}") > 0.75
        assert person.wait("document.documentElement.scrollWidth <= innerWidth")
        assert person.faults() == []
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.get("about:blank")
    assert person.complaints() == []


def test_no_fault_on_the_other_pages(person):
    person.go("/api")
    person.all("summary")[3].click()
    assert person.faults() == []
    person.go("/nothing/here")
    person.see("h1", "There is nothing here")
    assert person.faults() == []
    person.go("/teaching")
    person.see("h2", "Correct a few sentences first")
    assert person.faults() == []
    metrics = {"width": 320, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    person.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for path in ("/api", "/nothing/here", "/teaching"):
        person.go(path)
        assert person.wait("document.documentElement.scrollWidth <= innerWidth")
    assert person.faults() == []
    person.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    person.complaints()  # 404, as it should


def test_the_first_key_leads_past_the_menu(person):
    person.go("/api")
    ActionChains(person.browser).send_keys(Keys.TAB, Keys.ENTER).perform()
    assert person.browser.switch_to.active_element.get_attribute("id") == "main"


def test_polls_where_events_do_not_come_through(person, files):
    """So many pages are open that this one is told to ask instead."""
    person.go("/api")  # nobody listens there
    others = []
    while len(others) < 8:  # a page before this one may still be letting go of its place
        other = requests.get(f"{person.url}/events", stream=True, timeout=5)
        if other.ok:
            others.append(other)
    assert requests.get(f"{person.url}/events", timeout=5).status_code == 503
    person.go("/")
    person.all("#files")[0].send_keys(str(files / "red.webm"))
    person.see(".card.done .name", "red.webm")
    for other in others:
        other.close()
    person.complaints()


def test_an_upload_goes_on_after_the_line_was_down(person, files):
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    person.go("/")
    person.browser.execute_cdp_cmd("Network.enable", {})
    person.browser.execute_cdp_cmd("Network.emulateNetworkConditions", network | {"offline": True})
    try:
        person.all("#files")[0].send_keys(str(files / "blue.webm"))
        person.see("#uploads li", "continues when it is back")
    finally:
        person.browser.execute_cdp_cmd(
            "Network.emulateNetworkConditions", network | {"offline": False}
        )
    person.see(".card.done .name", "blue.webm")
