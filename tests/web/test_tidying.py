"""A library kept tidy in a browser: deleted and put back, tags, a file that is here twice."""

import pytest
from selenium.webdriver.common.keys import Keys

from .serving import wait


@pytest.fixture(params=[1280, 320])
def width(request, person):
    """Of the screen: a desk's, a small phone's."""
    width = request.param
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    person.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    yield width
    person.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_tidying(person, add, api, clip, width):
    clip += str(width).encode()
    first = add(clip, "first.webm")
    second = add(clip, "second.webm")

    # A file that is here twice: in the library, on its page; the person decides.
    person.go("/?state=twins")
    person.see(f"[data-video='{second}'] .twin", "The same file is here already")
    assert person.faults() == []
    person.go(f"/videos/{second}")
    person.see("#heading .notice", "This is the same file as first.webm")
    assert person.faults() == []
    person.click("#keep-both")
    person.wait("!document.querySelector('#keep-both')")
    assert api("GET", f"/videos/{second}")["twin"] is None

    # Tags, by keyboard, and taken away again.
    box = person.see("#new-tag")
    box.send_keys("Holiday", Keys.ENTER)
    person.see("#tags .pill", "Holiday")
    person.wait("document.activeElement.id === 'new-tag'")
    person.see("#new-tag").send_keys("beach", Keys.ENTER)
    person.see("#tags .pill", "beach")
    person.wait("document.activeElement.id === 'new-tag'")
    person.click("#untag-1")
    person.wait("document.querySelectorAll('#tags .pill').length === 1")
    assert api("GET", f"/videos/{second}")["tags"] == ["Holiday"]
    assert person.wait("document.documentElement.scrollWidth <= innerWidth")

    # Deleted on its page, and put back at once.
    person.click("#delete")
    person.see("#sure", "can be put back for 7 days")
    person.click("#sure button[value=yes]")
    person.see("#notices", "Deleted second.webm.")
    assert person.faults() == []
    person.click("#notices button", "Undo")
    person.see("#notices", "Put back 1 video.")
    person.see(f"[data-video='{second}'] .tags", "Holiday")

    # Tagged and deleted in the library; put back and deleted for good in the bin.
    for video in (first, second):
        person.see(f"#tick-{video}").click()
    person.see("#selected", "2 selected")
    assert person.wait("document.documentElement.scrollWidth <= innerWidth")
    person.see("#name").send_keys(f"both {width}", Keys.ENTER)
    person.see("#notices", f"Tagged 2 videos: both {width}.")
    person.go(f"/?tag=both+{width}")
    person.click("#all")
    person.see("#selected", "2 selected")
    person.click("#delete")
    person.click("#sure button[value=yes]")
    person.see("#notices", "Deleted 2 videos.")
    person.click("#bin a", "Bin: 2 videos")
    person.see("h1", "Bin")
    assert person.faults() == []
    assert person.wait("document.documentElement.scrollWidth <= innerWidth")
    person.click(f"[data-restore='{first}']")
    person.wait(f"!document.querySelector('[data-restore=\"{first}\"]')")
    wait(lambda: api("GET", f"/videos?tag=both+{width}")["total"] == 1)
    person.click("#empty")
    person.see("#sure h2", "Empty the bin?")
    person.click("#sure button[value=yes]")
    person.see(".empty", "The bin is empty.")
    assert api("GET", "/bin")["videos"] == []
    assert person.complaints() == []
