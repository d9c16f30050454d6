"""Stretches arranged in a browser: by pointer, by keyboard alone, at a phone's width."""

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from .fakes import LONG
from .serving import wait

PLAYER = "document.querySelector('#player')"


def _stretches(api, video):
    said = api("GET", f"/videos/{video}")["sentences"][1:]
    return [(round(row["start"], 1), round(row["end"], 1), row["text"]) for row in said]


def _seek(person, seconds):
    """Moves the video, and waits until the page says so."""
    person.browser.execute_script(f"{PLAYER}.pause(); {PLAYER}.currentTime = {seconds}")
    person.see("#add", f"0:0{seconds:.1f}")


def _press(person, *keys):
    ActionChains(person.browser).send_keys(*keys).perform()


def test_stretches_are_arranged(person, add, api, clip):
    video = add(clip + LONG)  # of 4.8 seconds
    person.go(f"/videos/{video}")
    person.wait(f"{PLAYER}.readyState >= 1")
    before = _stretches(api, video)
    assert [row[:2] for row in before] == [(0, 1.6), (1.6, 3.2), (3.2, 4.8)]

    # By pointer: a border is dragged, and the video shows where it is.
    person.click("#arrange-2")
    slider = person.see("#ends")
    assert slider.accessible_name == "Ends"
    ActionChains(person.browser).drag_and_drop_by_offset(slider, 40, 0).perform()
    wait(lambda: _stretches(api, video) != before)
    [_, (start, end, _), (after, *_)] = _stretches(api, video)
    assert start == 1.6
    assert 3.2 < end == after < 4.8
    person.wait(f"Math.abs({PLAYER}.currentTime - {end}) < 0.1")
    person.see("#ends-at", f"0:0{end}")
    assert person.faults() == []
    person.click("#undo", "Undo moving a border")
    wait(lambda: _stretches(api, video) == before)
    person.wait("!document.querySelector('#undo')")

    # Split where the video is; what is typed then goes into the second part.
    _seek(person, 2.0)
    person.click("#arrange-2")
    person.click("#split", "Split at 0:02.0")
    wait(lambda: len(_stretches(api, video)) == 4)
    person.wait("document.activeElement.id === 'stretch-3'")
    person.browser.switch_to.active_element.send_keys(Keys.END, " More.", Keys.ENTER)
    lively = before[1][2]
    parts = [before[0], (1.6, 2.0, lively), (2.0, 3.2, f"{lively} More."), before[2]]
    wait(lambda: _stretches(api, video) == parts)
    person.see("[data-position='3'] .pill", "Corrected")
    person.browser.execute_script("document.activeElement.blur()")
    person.see("#undo", "Undo the correction")  # all that was held back is shown

    # By keyboard alone: a border by arrows, merged, deleted, added, all undone.
    person.browser.execute_script("document.getElementById('arrange-1').focus()")
    _press(person, Keys.ENTER, Keys.TAB, Keys.TAB, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    moved = [(0, 1.4, parts[0][2]), (1.4, 2.0, lively), *parts[2:]]
    wait(lambda: _stretches(api, video) == moved)
    person.see("#ends-at", "0:01.4")
    person.wait("document.activeElement.id === 'ends'")
    _press(person, "m")
    merged = [(0, 2.0, f"{parts[0][2]} {lively}"), *moved[2:]]
    wait(lambda: _stretches(api, video) == merged)
    person.wait("document.querySelectorAll('.stretches > li').length === 3")
    person.see("#ends-at", "0:02.0")
    _press(person, Keys.DELETE)
    wait(lambda: _stretches(api, video) == merged[1:])
    person.wait("document.activeElement.id === 'arrange-1'")
    _seek(person, 0.5)
    person.browser.execute_script("document.getElementById('add').focus()")
    _press(person, Keys.ENTER)
    person.see("#adding label", "What happens from 0:00.5 to 0:02.0?")
    _press(person, "Something else.", Keys.ENTER)
    wait(lambda: _stretches(api, video) == [(0.5, 2.0, "Something else."), *merged[1:]])
    person.wait("document.activeElement.id === 'add'")
    undone = [(merged[1:], "the added"), (merged, "the deletion"), (moved, "the merging")]
    for state, change in [*undone, (parts, "moving a border")]:
        person.see("#undo", f"Undo {change}")
        keys = ActionChains(person.browser).key_down(Keys.CONTROL).send_keys("z")
        keys.key_up(Keys.CONTROL).perform()
        wait(lambda state=state: _stretches(api, video) == state)
    assert person.complaints() == []


def test_stretches_are_arranged_on_a_phone(person, add, api, clip):
    video = add(clip + LONG)
    before = _stretches(api, video)
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    person.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        person.go(f"/videos/{video}")
        person.wait(f"{PLAYER}.readyState >= 1")
        person.click("#arrange-1")
        person.see("#merge")
        assert person.wait("document.documentElement.scrollWidth <= innerWidth")
        sizes = "[...document.querySelectorAll('.tools-of button, .arrange')].every("
        assert person.wait(f"{sizes}button => button.offsetHeight >= 32)")
        assert person.faults() == []
        person.click("#merge")
        wait(lambda: len(_stretches(api, video)) == 2)
        person.click("#drop-stretch")
        wait(lambda: _stretches(api, video) == before[2:])
        # Changes of another tab are seen, and what is open stays open.
        person.click("#arrange-1")
        person.see("#split")
        api("POST", f"/videos/{video}/undo")
        person.wait("document.querySelectorAll('.stretches > li').length === 2")
        person.see("#split")
        api("PUT", f"/videos/{video}/sentences/1", {"text": "Another tab's.", "was": 0})
        person.wait("document.getElementById('stretch-1').value === \"Another tab's.\"")
    finally:
        person.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert person.complaints() == []
