"""Pictures of every page, in light and dark, on a desk and on a phone.

python -m tests.web.screenshots [FOLDER]
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from web.config import WebConfig

from .browser import Person, chromium
from .conftest import draw
from .fakes import label_folder
from .serving import serving


def main(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["FAKE_EPOCH_SECONDS"] = "1"
    with tempfile.TemporaryDirectory() as data:
        clips = [_photograph_clip(Path(data), name) for name in ("coffee", "chelsea", "rocket")]
        clips += [draw(Path(data) / "blue.webm", "blue")]
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
            person.wait("document.querySelectorAll('.card.done').length === 4")
            hrefs = [a.get_attribute("href") for a in person.all(".card.done .sentence")]
            paths = [href.removeprefix(url) for href in hrefs]
            for path in paths[:3]:
                person.go(path)
                person.click("#edit")
                person.see("#text").clear()
                person.see("#text").send_keys("A steaming cup of coffee on a wooden table.")
                person.click("#editor .main")
                person.see(".pill", "Corrected by hand")
            person.go("/teaching")
            person.click("#teach")
            person.see(".curve svg")
            _shots(person, folder, "learning", ["/teaching"])
            person.see("h2", "is ready", seconds=60)
            pages = {
                "library": "/", "search": "/?q=coffee", "none": "/?q=elephant",
                "video": paths[-1], "teaching": "/teaching", "api": "/api", "error": "/none",
            }  # fmt: skip
            for name, path in pages.items():
                _shots(person, folder, name, [path])
        with serving(replace(config, data=Path(data) / "locked", token="x")) as person.url:
            _shots(person, folder, "login", ["/login"])
        browser.quit()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


def _shots(person, folder, name, paths):
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            person.browser.execute_cdp_cmd(
                "Emulation.setEmulatedMedia",
                {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
            )
            metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            person.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            person.go(paths[0])
            if name == "video":
                person.click(".word")
            person.wait("[...document.images].every((i) => i.complete || i.loading === 'lazy')")
            time.sleep(0.4)
            height = person.browser.execute_script("return document.body.scrollHeight")
            metrics["height"] = min(max(height, 600), 4000)
            person.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            time.sleep(0.3)
            person.browser.save_screenshot(str(folder / f"{name}-{width}-{scheme}.png"))


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
