"""An hour's work on the page: what must neither be lost, nor stop, nor stand in the way."""

import base64

import cv2
import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.clips import write_clip

from .fakes import LONG
from .serving import wait
from .test_previews import encode

PLAYER = "document.querySelector('#player')"


def _play(person):
    person.browser.execute_script(f"{PLAYER}.muted = true; {PLAYER}.kept = true")
    person.browser.execute_script(f"{PLAYER}.loop = true; {PLAYER}.play()")
    person.wait(f"{PLAYER}.currentTime > 0.2")


def test_the_player_plays_on_whatever_is_corrected(person, add, api, clip):
    video = add(clip + LONG)
    person.go(f"/videos/{video}")
    _play(person)
    # By somebody else, by oneself, and when it is captioned again.
    api("PUT", f"/videos/{video}/sentences/0", {"text": "Somebody else's."})
    person.see("#sentence", "Somebody else's.")
    person.click("#edit")
    person.see("#text").send_keys("Mine.", Keys.ENTER)
    person.see("#sentence", "Mine.")
    assert person.browser.switch_to.active_element.get_attribute("id") == "edit"
    cue = f"{PLAYER}.textTracks[{PLAYER}.textTracks.length - 1].cues?.[0]?.text"
    person.wait(f"{cue} === 'Part 0 of a quiet film.'")
    person.all("#stretch-1")[0].click()
    person.all("#stretch-1")[0].send_keys(Keys.END, " Yes.", Keys.ENTER)
    person.see("[data-position='1'] .pill", "Corrected")
    assert person.browser.switch_to.active_element.get_attribute("id") == "stretch-2"
    person.wait(f"{cue} === 'Part 0 of a quiet film. Yes.'")
    api("POST", f"/videos/{video}/retry")
    wait(lambda: api("GET", f"/videos/{video}")["state"] == "done")
    assert person.wait(f"{PLAYER}.kept && !{PLAYER}.paused && {PLAYER}.currentTime > 0")


def test_what_is_being_typed_stays(person, add, api, clip):
    video = add(clip + LONG)
    person.go(f"/videos/{video}")
    person.click("#edit")
    person.see("#text").send_keys("Half a sent")
    api("PUT", f"/videos/{video}/sentences/0", {"text": "Another tab's."})
    api("POST", f"/videos/{video}/retry")
    person.see("#news", "changed meanwhile")
    wait(lambda: api("GET", f"/videos/{video}")["state"] == "done")
    person.see("#text").send_keys("ence.")
    assert person.all("#text")[0].get_property("value") == "Half a sentence."
    person.all("#text")[0].send_keys(Keys.ESCAPE)
    person.see("#sentence", "Another tab's.")
    assert not person.all("#news")[0].is_displayed()

    # So does what is typed into one of the stretches; Escape undoes it.
    person.all("#stretch-2")[0].click()
    person.all("#stretch-2")[0].send_keys("New: ")
    api("PUT", f"/videos/{video}/sentences/1", {"text": "Another tab's stretch."})
    person.see("#news", "changed meanwhile")
    assert "New: " in person.all("#stretch-2")[0].get_property("value")
    person.all("#stretch-2")[0].send_keys(Keys.ESCAPE, Keys.TAB)
    person.wait("document.getElementById('stretch-1').value === \"Another tab's stretch.\"")
    assert api("GET", f"/videos/{video}")["sentences"][2]["corrected"] is False
    assert person.complaints() == []


def test_many_tabs_share_a_connection(person, add, api, clip):
    video = add(clip)
    browser = person.browser
    first = browser.current_window_handle
    try:
        for number in range(8):
            browser.switch_to.new_window("tab")
            person.go(f"/videos/{video}" if number % 2 else "/")
            person.see(".screen, .card", seconds=5)
        # An upload needs connections too.
        person.go("/")
        browser.execute_script(
            "const files = new DataTransfer();"
            "files.items.add(new File([Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0))],"
            "'eighth.webm')); const input = document.getElementById('files');"
            "input.files = files.files; input.dispatchEvent(new Event('change'))",
            base64.b64encode(clip).decode(),
        )
        person.see(".card.done .name", "eighth.webm")
        # All of them hear of what changes.
        api("PUT", f"/videos/{video}/sentences/0", {"text": "Heard everywhere."})
        for handle in browser.window_handles:
            browser.switch_to.window(handle)
            if video in browser.current_url:
                person.see("#sentence", "Heard everywhere.")
    finally:
        for handle in browser.window_handles:
            if handle != first:
                browser.switch_to.window(handle)
                browser.close()
        browser.switch_to.window(first)


def test_a_link_from_elsewhere_breaks_no_open_page(person, add, clip, tmp_path):
    """It used to set another session over the one of the open tabs."""
    video = add(clip)
    browser = person.browser
    person.go(f"/videos/{video}")
    first = browser.current_window_handle
    elsewhere = tmp_path / "chat.html"
    elsewhere.write_text(f"<a id='link' href='{person.url}/'>Look at this</a>")
    browser.switch_to.new_window("tab")
    browser.get(elsewhere.as_uri())
    person.click("#link")
    person.see(".card")
    browser.close()
    browser.switch_to.window(first)
    person.click("#edit")
    person.see("#text").send_keys("Still works.", Keys.ENTER)
    person.see("#sentence", "Still works.")

    # Not even a session that is set anew: the page gets another token, and goes on.
    browser.delete_all_cookies()
    person.click("#edit")
    person.see("#text").send_keys("And still.", Keys.ENTER)
    person.see("#sentence", "And still.")
    assert all("400" in text for text in person.complaints())


def _inside(person, inner, outer):
    """Whether what an element holds is not wider than another one."""
    return person.browser.execute_script(
        "const [inner, outer] = [...arguments].map((s) => document.querySelector(s));"
        "return inner.getBoundingClientRect().right <= outer.getBoundingClientRect().right",
        inner,
        outer,
    )


def _ratio(person, selector):
    return person.browser.execute_script(
        "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
        "return box.width / box.height",
        selector,
    )


def test_files_of_every_kind_are_shown_as_they_are(person, add, api, clip, tmp_path):
    # The name that a phone gives.
    add(clip, "WhatsApp Video 2025-07-04 at 18.12.12.webm")
    person.go("/")
    person.see(".card.done .name", "WhatsApp")
    assert _inside(person, ".card .sentence", ".card")
    assert person.wait("document.querySelector('.thumb img').naturalWidth")

    # A portrait, neither squashed nor in a wide black box.
    frames = [np.full((96, 54, 3), number * 5, np.uint8) for number in range(20)]
    portrait = write_clip(tmp_path / "portrait.webm", frames, codec="VP80").read_bytes()
    person.go(f"/videos/{add(portrait, 'portrait.webm')}")
    person.wait(f"{PLAYER}.readyState >= 1")
    person.wait("document.querySelector('.frame img').naturalWidth")
    assert _ratio(person, "#screen") == pytest.approx(54 / 96, abs=0.01)
    assert _ratio(person, ".frame img") == pytest.approx(54 / 96, abs=0.05)

    # A picture once, with what a word looked at laid over it; one that browsers do not know.
    picture = np.full((200, 300, 3), (40, 40, 220), np.uint8)
    png, tiff = (cv2.imencode(kind, picture)[1].tobytes() for kind in (".png", ".tiff"))
    for content, name in ((png, "still.png"), (tiff, "still.tiff")):
        person.go(f"/videos/{add(content, name)}")
        person.wait("document.querySelector('#picture').naturalWidth === 300")
        assert person.all(".strip") == []
        assert _ratio(person, "#screen") == pytest.approx(1.5, abs=0.01)
        person.all(".word")[0].click()
        person.see("#heat")

    # One that this browser does not play, but the model has seen; until it has a preview.
    person.go(f"/videos/{add(clip)}")
    person.browser.execute_script(f"{PLAYER}.dispatchEvent(new Event('error'))")
    person.see("#unplayable", "the frames that the model looked at")
    first = person.see("#still").get_attribute("src")
    person.all(".frame")[2].click()
    assert person.see("#still").get_attribute("src") != first
    assert not person.all("#player")[0].is_displayed()
    person.click("#make-preview")
    person.see("#preview", "a small preview")
    person.wait(f"{PLAYER}.src.endsWith('/preview') && {PLAYER}.readyState >= 1")
    assert person.see("#player")
    assert not person.all("#still")[0].is_displayed()

    # Ones that no browser plays, as phones and cameras write them: their previews play.
    for name, pictures in (("phone.mp4", "libx265"), ("camera.mov", "prores_ks")):
        pixels = "yuv422p10le" if pictures == "prores_ks" else "yuv420p"
        file = encode(tmp_path / name, pictures, "aac", pixels, seconds=4)
        person.go(f"/videos/{add(file.read_bytes(), name)}")
        person.see("#preview", "a small preview")
        _play(person)
        assert person.wait(f"{PLAYER}.videoWidth") == 64
        assert person.faults() == []

    # One that neither of them can read.
    broken = add(b"\0\0\0\x20ftypisom" + bytes(300), "broken.mp4", "failed")
    person.go(f"/videos/{broken}")
    person.see("#heading .error", "could not be captioned")
    person.see("#unplayable", "does not show this kind of file")
    assert "model looked" not in person.see("#unplayable").text
    assert not person.all("#screen")[0].is_displayed()
    person.complaints()  # of what does not play


def test_a_search_leads_to_the_moment(person, add, api, clip):
    video = add(clip + LONG, "walk.webm")
    current = f"{PLAYER}.currentTime"
    for _ in range(3):
        person.go("/?q=winding")
        person.click(f".card[data-video='{video}'] .hits a", "0:03")
        person.wait(f"{current} > 3")
    person.see(".stretches .now .seek", "0:03")
    person.click("#seek-1")
    person.wait(f"{current} < 0.5")


def test_on_a_phone_sentences_are_read_whole_and_the_video_stays_in_sight(person, add, api, clip):
    video = add(clip + LONG, "walk.webm")
    long = "A long and winding sentence that tells of everything that is seen here. " * 4
    for position in (1, 2, 3):
        api("PUT", f"/videos/{video}/sentences/{position}", {"text": long})
    browser = person.browser
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        person.go(f"/videos/{video}")
        person.see("#stretch-3")
        for number in (1, 2, 3):
            assert person.wait(
                f"(({{clientHeight: seen, scrollHeight: all}}) => seen >= all && seen > 100)"
                f"(document.getElementById('stretch-{number}'))"
            )
        assert person.wait("document.documentElement.scrollWidth <= innerWidth")
        browser.execute_script("document.getElementById('seek-3').scrollIntoView({block: 'end'})")
        before = browser.execute_script("return scrollY")
        person.click("#seek-3")
        person.wait(f"{PLAYER}.currentTime > 3")
        assert browser.execute_script("return scrollY") == before > 0
        assert person.wait(f"{PLAYER}.getBoundingClientRect().top >= 0")
        assert person.faults() == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def _empty(person, api):
    """Deletes all videos, with the browser on no page that shows one."""
    person.go("/api")
    for video in api("GET", "/videos?per_page=200")["videos"]:
        api("DELETE", f"/videos/{video['id']}")
    person.complaints()


def _drop_in(person, content, name):
    """Chooses a file, as one does without a disk."""
    person.browser.execute_script(
        "const files = new DataTransfer();"
        "files.items.add(new File([Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0))],"
        "arguments[1])); const input = document.getElementById('files');"
        "input.files = files.files; input.dispatchEvent(new Event('change'))",
        base64.b64encode(content).decode(),
        name,
    )


def test_the_library_is_live(person, add, api, clip):
    _empty(person, api)
    person.go("/")
    person.see("h2", "Correct and teach")
    assert not person.all("#q")[0].is_displayed()
    # The first upload brings the tools along.
    _drop_in(person, clip, "first.webm")
    person.see(".card.done .name", "first.webm")
    person.see("#total", "1 video")
    person.see("#q")
    assert not person.all(".steps")[0].is_displayed()
    # What comes from elsewhere is seen, and what is ticked stays so.
    person.all(".card input")[0].click()
    person.see("#selected", "1 selected")
    second = add(clip, "second.webm")
    person.see(".card.done .name", "second.webm")
    person.see("#total", "2 videos")
    assert [tick.is_selected() for tick in person.all(".card input")] == [False, True]
    # A page that finds nothing shows what is found later, and takes uploads.
    person.go("/?q=whale")
    person.see("#none", "Nothing found")
    _drop_in(person, clip, "third.webm")
    wait(lambda: api("GET", "/videos?state=done")["total"] == 3)
    api("PUT", f"/videos/{second}/sentences/0", {"text": "A whale."})
    person.see(".card .sentence", "A whale.")
    assert not person.all("#none .empty")
    assert len(person.all(".card")) == 1
    api("DELETE", f"/videos/{second}")
    person.see("#none", "Nothing found")
    assert person.complaints() == []


def test_select_all_means_all(person, api):
    for number in range(27):
        api("POST", "/videos", {"name": f"{number}.webm", "size": 100})
    others = api("GET", "/videos")["total"] - api("GET", "/videos?state=uploading")["total"]
    person.go("/?state=uploading")
    person.click("#all")
    person.see("#selected", "24 selected")
    person.click("#rest", "Select all 27 on all pages")
    person.see("#selected", "27 selected")
    person.click("#delete")
    person.see("#sure h2", "Delete 27 videos?")
    person.click("#sure button[value=yes]")
    person.see("#notices", "Deleted 27 videos.")
    assert "state=uploading" in person.browser.current_url
    assert api("GET", "/videos")["total"] == others


def _drop_folder(person, folder):
    """As the browser hands it over."""
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        person.browser.execute_cdp_cmd(
            "Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 150, "data": data}
        )


def test_a_folder_is_dropped_or_chosen(person, api, clip, tmp_path):
    inner = tmp_path / "holiday" / "second day"
    inner.mkdir(parents=True)
    for place, name in ((inner.parent, "a.webm"), (inner, "b.webm"), (inner, "notes.txt")):
        (place / name).write_bytes(clip)
    person.go("/")
    person.all("#folder")[0].send_keys(str(inner.parent))
    person.see(".card.done .name", "a.webm")
    person.see(".card.done .name", "b.webm")
    names = [row["name"] for row in api("GET", "/videos")["videos"]]
    assert "notes.txt" not in names
    before = api("GET", "/videos")["total"]
    _drop_folder(person, inner.parent)
    wait(lambda: api("GET", "/videos?state=done")["total"] >= before + 2)
    person.wait("!document.querySelector('#uploads li')")
    assert person.complaints() == []


def test_a_file_that_cannot_be_read_is_refused_and_leaves_nothing(person, api, clip):
    before = api("GET", "/videos")["total"]
    person.go("/")
    person.browser.execute_script(
        "File.prototype.arrayBuffer = Blob.prototype.arrayBuffer = "
        "async () => { throw new DOMException('gone', 'NotFoundError'); }"
    )
    _drop_in(person, clip, "gone.webm")
    person.see("#uploads .problem", "cannot be read")
    assert api("GET", "/videos")["total"] == before


def test_correcting_one_after_the_other_with_the_keyboard_alone(person, add, api, clip):
    _empty(person, api)
    ids = sorted(add(clip, f"walk {name}.webm") for name in "abc")  # of one score: by their ids
    add(clip, "other.webm")
    person.go("/?q=walk")
    person.click("a", "Correct one by one")
    for number, video in enumerate(ids[:2]):
        box = person.see("#text")
        person.see("#left", f"{3 - number} sentence")
        assert video in person.browser.current_url
        assert person.browser.switch_to.active_element == box
        person.wait(f"{PLAYER}.currentTime > 0")  # it plays by itself
        box.send_keys(f"Number {number}.", Keys.ENTER)
        person.wait(f"!location.href.includes('{video}')")
    assert api("GET", f"/videos/{ids[0]}")["sentence"] == "Number 0."
    # Out of the box, keys move along.
    person.see("#text").send_keys(Keys.ESCAPE)
    keys = lambda *some: ActionChains(person.browser).send_keys(*some).perform()  # noqa: E731
    keys("?")
    person.see("#keys", "play or pause")
    keys(Keys.ESCAPE)
    person.wait("!document.querySelector('#keys').open")
    person.wait(f"!{PLAYER}.paused && {PLAYER}.currentTime > 0")  # no play is still to begin
    keys(Keys.SPACE)
    person.wait(f"{PLAYER}.paused")
    before = person.browser.execute_script(f"{PLAYER}.currentTime = 1; return 1")
    keys(Keys.ARROW_RIGHT)
    person.wait(f"{PLAYER}.currentTime > {before + 1}")
    keys("e")

    # The player obeys where one types, too.
    def control(key):
        chain = ActionChains(person.browser).key_down(Keys.CONTROL).send_keys(key)
        chain.key_up(Keys.CONTROL).perform()

    at = person.browser.execute_script(f"return {PLAYER}.currentTime = 1")
    control(" ")
    person.wait(f"!{PLAYER}.paused && {PLAYER}.currentTime > {at}")
    control(" ")
    person.wait(f"{PLAYER}.paused")
    at = person.browser.execute_script(f"return {PLAYER}.currentTime = 3")
    control(",")
    person.wait(f"{PLAYER}.currentTime < {at - 1}")
    person.see("#text").send_keys("Number 2.", Keys.ENTER)
    person.see("#notices", "no other sentence to correct")
    assert "q=walk" in person.browser.current_url  # of those searched for
    assert api("GET", "/videos?corrected=true")["total"] == 3
    assert person.complaints() == []


def test_stretches_are_corrected_while_they_play(person, add, api, clip):
    _empty(person, api)
    first, second = (add(clip + LONG, f"{name}.webm") for name in "ab")
    first, second = sorted((first, second))
    person.go(f"/videos/{first}?correct=1")
    person.see("#text").send_keys(Keys.ESCAPE)
    api("PUT", f"/videos/{first}/sentences/1", {"text": "Right already."})
    person.see("[data-position='1'] .pill", "Corrected")
    ActionChains(person.browser).send_keys("w").perform()
    focused = lambda: person.browser.switch_to.active_element.get_attribute("id")  # noqa: E731
    assert focused() == "stretch-2"
    # It is played again and again while one writes.
    row = "document.getElementById('stretch-2').closest('li').dataset"
    person.wait(f"{PLAYER}.currentTime >= {row}.start && {PLAYER}.currentTime < {row}.end")
    person.browser.execute_script(
        f"window.again = 0; {PLAYER}.addEventListener('seeked', () => {{ window.again += 1; }})"
    )
    person.wait("window.again >= 1")
    everything = Keys.CONTROL + "a" + Keys.NULL
    person.see("#stretch-2").send_keys(everything, "The middle.", Keys.ENTER)
    assert focused() == "stretch-3"
    person.see("#stretch-3").send_keys(Keys.END, " And so it ends.", Keys.ENTER)
    person.wait("location.pathname.endsWith(arguments[0])", second)
    texts = [sentence["text"] for sentence in api("GET", f"/videos/{first}")["sentences"]]
    assert texts[1:3] == ["Right already.", "The middle."]
    assert texts[3].endswith("And so it ends.")
    assert person.complaints() == []


# `window.asking`: requests that are open, and for half a second more, in which the page asks for
# what follows from the answer.
COUNT_REQUESTS = """
    const send = window.fetch;
    window.asking = 0;
    window.fetch = (...request) => {
      window.asking += 1;
      return send(...request).finally(() => { setTimeout(() => { window.asking -= 1; }, 500); });
    };
"""


def _slow_down(person, seconds):
    """Lets the browser wait so long for each answer."""
    conditions = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
    person.browser.execute_cdp_cmd("Network.enable", {})
    person.browser.execute_cdp_cmd(
        "Network.emulateNetworkConditions", conditions | {"latency": 1000 * seconds}
    )


def test_the_whole_queue_and_hundreds_of_files(person, api, clips, tmp_path):
    _empty(person, api)
    folder = tmp_path / "holiday"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number}.webm").write_bytes(clips["red"] + str(number).encode())
    api("POST", "/queue/pause")
    person.go("/")
    person.see("#queue", "New videos wait until you resume.")
    person.browser.execute_script(COUNT_REQUESTS)
    _slow_down(person, 0.3)  # so that most are still to come when they are cancelled
    person.all("#folder")[0].send_keys(str(folder))
    person.see("#uploading", "files to upload")
    shown = "[...document.querySelectorAll('#uploads li')].filter((row) => row.offsetHeight).length"
    assert person.browser.execute_script(f"return {shown}") < 10
    person.see("#queue", "0 of ", seconds=60)
    person.click("#uploading button")
    person.wait("!document.querySelector('#uploads li')")
    _slow_down(person, 0)
    # What was announced meanwhile is deleted once the page knows its id; then all is still.
    person.wait("window.asking === 0", seconds=60)
    wait(lambda: api("GET", "/queue")["open"] == api("GET", "/videos")["total"])
    assert 0 < api("GET", "/queue")["open"] < 300

    # Dropped, they all arrive and are captioned, and the page follows.
    _empty(person, api)
    person.go("/")
    _drop_folder(person, folder)
    person.see("#queue", "0 of 300 captioned", seconds=120)
    person.wait("!document.querySelector('#uploads li')")
    person.click("#queue button", "Resume")
    person.wait("!document.querySelector('#queue progress')", seconds=120)
    person.see("#total", "300 videos")
    person.wait("document.querySelectorAll('.card.done').length === 24")
    assert api("GET", "/videos?state=done")["total"] == 300
    assert person.faults() == []
    assert person.complaints() == []
