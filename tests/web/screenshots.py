"""Pictures of every page, in light and dark, on a desk, on a phone and on a small phone.

python -m tests.web.screenshots [FOLDER]
"""

import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import requests

from web.config import WebConfig

from .browser import Person, chromium
from .conftest import draw
from .fakes import LONG, label_folder
from .serving import serving

SENTENCES = (
    "A steaming cup of coffee on a wooden table.",
    "A rocket waits for its start between two towers.",
    "A cat looks into the camera.",
)


def main(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["FAKE_EPOCH_SECONDS"] = "1"
    with tempfile.TemporaryDirectory() as data:
        clips = [_photograph_clip(Path(data), name) for name in ("coffee", "chelsea", "rocket")]
        clips += [draw(Path(data) / "blue.webm", "blue")]
        clips[1].write_bytes(clips[1].read_bytes() + LONG)
        clips += [Path(shutil.copy(clips[0], Path(data) / "A copy of the coffee.webm"))]
        (Path(data) / "broken.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(300))
        config = WebConfig(data=Path(data) / "served", min_free=0)
        config = replace(config, label_model=label_folder(Path(data) / "moments"))
        with serving(config) as url:
            browser = chromium()
            person = Person(browser, url)
            _shots(person, folder, "empty", ["/"])
            person.go("/")
            files = [*clips, Path(data) / "broken.mp4"]
            person.all("#files")[0].send_keys("\n".join(map(str, files)))
            person.see(".card.failed")
            person.wait("document.querySelectorAll('.card.done').length === 5")
            hrefs = [a.get_attribute("href") for a in person.all(".card.done .sentence")]
            paths = [href.removeprefix(url) for href in hrefs]
            told = {row["name"]: row["id"] for row in _ask(url, "GET", "/videos")["videos"]}
            path_of = lambda name: f"/videos/{told[name]}"  # noqa: E731
            for name in ("chelsea.webm", "rocket.webm"):
                _ask(url, "PUT", f"{path_of(name)}/tags", {"tags": ["Holiday", "to keep"]})
            for path, sentence in zip(paths, SENTENCES):
                person.go(path)
                person.click("#edit")
                person.see("#text").clear()
                person.see("#text").send_keys(sentence)
                person.click("#editor .main")
                person.see(".pill", "Corrected by hand")
            person.go("/teaching")
            person.click("#teach")
            person.see(".curve svg")
            _shots(person, folder, "learning", ["/teaching"])
            person.see("h2", "is ready", seconds=60)
            _ask(url, "DELETE", path_of("blue.webm"))
            pages = {
                "library": "/", "search": "/?q=coffee", "none": "/?q=elephant",
                "video": path_of("rocket.webm"), "stretches": path_of("chelsea.webm"),
                "failed": path_of("broken.mp4"), "correct": "/correct", "bin": "/bin",
                "teaching": "/teaching", "api": "/api", "error": "/none",
            }  # fmt: skip
            for name, path in pages.items():
                _shots(person, folder, name, [path])
            person.go("/teaching")
            person.click(".ready .row > button")
            _shots(person, folder, "models", ["/teaching"])
        with serving(replace(config, data=Path(data) / "locked", token="x")) as person.url:
            _shots(person, folder, "login", ["/login"])
        browser.quit()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


def _shots(person, folder, name, paths):
    for width in (1280, 390, 320):
        for scheme in ("light", "dark") if width != 320 else ("light",):
            person.browser.execute_cdp_cmd(
                "Emulation.setEmulatedMedia",
                {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
            )
            metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            person.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            person.go(paths[0])
            if name == "video":
                person.click(".word")
            if name == "stretches":
                person.click("#arrange-2")
                person.see(".tools-of")
            wide = person.browser.execute_script("return document.documentElement.scrollWidth")
            if wide > width:
                print(f"{name} is {wide} pixels wide on a screen of {width}")
            person.wait("[...document.images].every((i) => i.complete || i.loading === 'lazy')")
            time.sleep(0.4)
            height = person.browser.execute_script("return document.body.scrollHeight")
            metrics["height"] = min(max(height, 600), 4000)
            person.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            time.sleep(0.3)
            person.browser.save_screenshot(str(folder / f"{name}-{width}-{scheme}.png"))
    person.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def _ask(url, method, path, json=None):
    answer = requests.request(method, f"{url}/api/v1{path}", json=json, timeout=10)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def _photograph_clip(folder, name):
    """A clip that moves over a photograph of scikit-image."""
    from skimage import data

    picture = getattr(data, name)()[..., ::-1]
    height, width = picture.shape[:2]
    size = (640, 360)
    path = folder / f"{name}.webm"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), 25, size)
    for part in np.linspace(0, 1, 60):
        scale = max(size[0] / width, size[1] / height) * (1.02 + 0.25 * part)
        large = cv2.resize(picture, None, fx=scale, fy=scale)
        top, left = (int((a - b) * part) for a, b in zip(large.shape[:2], size[::-1], strict=True))
        writer.write(np.ascontiguousarray(large[top : top + size[1], left : left + size[0]]))
    writer.release()
    return path


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots"))
