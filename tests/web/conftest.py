"""flaskr's fixtures: `app`, `client` and `runner`, and clips to send; and those of tests in a
browser: `person` with a server, `api`, `add` and `clip`."""

import numpy as np
import pytest
import requests

from tests.clips import write_clip
from web import create_app
from web.config import WebConfig
from web.worker import Worker

from .browser import Person, chromium
from .fakes import FakeCaptioner, FakeLabeller
from .serving import serving, wait

COLOURS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}


def draw(path, colour, num_frames=16):
    """Writes a clip of a coloured square that moves to the right."""
    frames = []
    for x in range(0, 48, 48 // num_frames):
        frame = np.full((48, 64, 3), 40, np.uint8)
        frame[12:36, x : x + 16] = COLOURS[colour]
        frames.append(frame)
    return write_clip(path, frames, codec="VP80" if path.suffix == ".webm" else "MJPG")


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """The bytes of a clip of each colour, which browsers play."""
    folder = tmp_path_factory.mktemp("drawn")
    return {colour: draw(folder / f"{colour}.webm", colour).read_bytes() for colour in COLOURS}


@pytest.fixture
def config(tmp_path):
    return WebConfig(data=tmp_path / "data", min_free=0)


@pytest.fixture
def app(config):
    return create_app(config, FakeCaptioner())


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def runner(app):
    return app.test_cli_runner()


@pytest.fixture
def send(client):
    """Uploads bytes in pieces; returns the last answer."""

    def send(content, name="clip.avi", piece=1 << 20, client=client):
        answer = client.post("/api/v1/videos", json={"name": name, "size": len(content)})
        while answer.status_code in (200, 201) and answer.json["received"] < len(content):
            offset = answer.json["received"]
            answer = client.patch(
                f"/api/v1/videos/{answer.json['id']}/content",
                data=content[offset : offset + piece],
                headers={"Upload-Offset": offset},
            )
        return answer

    return send


def work(config, load=FakeCaptioner.load, load_labeller=FakeLabeller.load, task=None):
    """Does all that waits, of any task or of this one."""
    with Worker(config, load, load_labeller) as worker:
        while worker.step(task):
            pass


@pytest.fixture
def captioned(send, runner, clips):
    """Ids of a red, a green and a blue clip, captioned."""
    ids = {colour: send(content, f"{colour}.avi").json["id"] for colour, content in clips.items()}
    assert runner.invoke(args=["work"]).exit_code == 0
    return ids


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    browser = chromium()
    config = WebConfig(data=tmp_path_factory.mktemp("data"), min_free=0)
    try:
        with serving(config) as url:
            yield Person(browser, url)
            browser.get("about:blank")
    finally:
        browser.quit()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A clip of five seconds that browsers play."""
    return draw(tmp_path_factory.mktemp("clips") / "red.webm", "red", 48).read_bytes()


@pytest.fixture
def api(person):
    """Somebody else, or a script: `api(method, path, json)`."""

    def ask(method, path, json=None, **more):
        answer = requests.request(
            method, f"{person.url}/api/v1{path}", json=json, timeout=10, **more
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    return ask


@pytest.fixture
def add(api):
    """Uploads bytes and waits for their sentence; returns the video's id."""

    def add(content, name="red.webm", state="done"):
        video = api("POST", "/videos", {"name": name, "size": len(content)})["id"]
        headers = {"Upload-Offset": "0"}
        api("PATCH", f"/videos/{video}/content", data=content, headers=headers)
        wait(lambda: api("GET", f"/videos/{video}")["state"] == state)
        return video

    return add
