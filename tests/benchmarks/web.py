"""The page under load: `python -m tests.benchmarks.web [--clips 200] [--clients 20] [--kills 5]`.

So many clients upload clips at once to a running server with the default model, while its worker
is killed (SIGKILL) again and again, and another client opens pages all the time. The last line on
stdout is a JSON object:

- uploaded: videos that the server took in whole;
- captioned: of those, how many have a sentence in the end;
- lost: the others; doubled: captions written more than once;
- page_p95_seconds: of the library, a video's page and the API's list, opened under that load;
- first_caption_seconds and seconds: from the first upload on.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import requests

from tests.clips import write_clip

_SERVE = (
    "import json, sys; from pathlib import Path; from web.config import WebConfig;"
    "from web.server import serve; serve(WebConfig(data=Path(sys.argv[1]), port=0))"
)
_PATIENCE = 1800.0  # seconds for all captions


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--kills", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        clips = [_draw(folder, number) for number in range(args.clips)]
        command = [sys.executable, "-c", _SERVE, str(folder / "data")]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            url = next(line for line in server.stderr if "captioner is at" in line).split()[-1]
            threading.Thread(target=server.stderr.read, daemon=True).start()
            result = _run(f"{url}api/v1", url, clips, args, folder / "data" / "worker.lock")
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    print(json.dumps(result))


def _run(api, url, clips, args, lock):
    started = time.monotonic()
    done, pages = threading.Event(), []
    reader = threading.Thread(target=_read_pages, args=(url, done, pages))
    reader.start()
    with ThreadPoolExecutor(args.clients) as clients:
        uploads = [clients.submit(_upload, api, clip) for clip in clips]
        first, kills = None, 0
        while time.monotonic() - started < _PATIENCE:
            captioned = _total(api, "done")
            if captioned and first is None:
                first = time.monotonic() - started
            if kills < args.kills and captioned >= (kills + 0.5) * len(clips) / args.kills:
                os.kill(int(lock.read_text()), signal.SIGKILL)
                kills += 1
                print(f"killed the worker at {captioned} captions", file=sys.stderr)
            if all(upload.done() for upload in uploads) and not sum(
                _total(api, state) for state in ("waiting", "working", "uploading")
            ):
                break
            time.sleep(0.1)
        uploaded = [upload.result() for upload in uploads]
    seconds = time.monotonic() - started
    done.set()
    reader.join()
    news = [event for event in _events(api) if event["topic"] == "video"]
    finished = [event["subject"] for event in news if event["state"] == "done"]
    states = [requests.get(f"{api}/videos/{video}", timeout=60).json() for video in uploaded]
    captioned = sum(state["state"] == "done" and bool(state["sentence"]) for state in states)
    return {
        "uploaded": len(set(uploaded)),
        "captioned": captioned,
        "lost": len(uploaded) - captioned,
        "doubled": len(finished) - len(set(finished)),
        "kills": kills,
        "page_p95_seconds": round(statistics.quantiles(pages, n=20)[-1], 3),
        "pages": len(pages),
        "first_caption_seconds": round(first or 0.0, 1),
        "seconds": round(seconds, 1),
    }


def _draw(folder, number):
    """A clip of three seconds, like no other."""
    rng = np.random.default_rng(number)
    colours = rng.integers(0, 255, (2, 3), dtype=np.uint8)
    frames = []
    for x in range(0, 240, 8):
        frame = np.empty((180, 320, 3), np.uint8)
        frame[:], frame[60:120, x : x + 60] = colours
        frames.append(frame)
    return write_clip(folder / f"{number}.mp4", frames)


def _upload(api, path):
    content = path.read_bytes()
    given = {"name": path.name, "size": len(content)}
    answer = requests.post(f"{api}/videos", json=given, timeout=60)
    answer.raise_for_status()
    video = answer.json()["id"]
    offset, piece = 0, len(content) // 2 + 1  # in two, as a larger one would come
    while offset < len(content):
        answer = requests.patch(
            f"{api}/videos/{video}/content",
            data=content[offset : offset + piece],
            headers={"Upload-Offset": str(offset)},
            timeout=60,
        )
        answer.raise_for_status()
        offset = answer.json()["received"]
    return video


def _total(api, state):
    query = {"state": state, "per_page": 1}
    return requests.get(f"{api}/videos", params=query, timeout=60).json()["total"]


def _read_pages(url, done, seconds):
    """Opens pages one after the other, and notes how long each took."""
    session = requests.Session()
    while not done.is_set():
        videos = session.get(f"{url}api/v1/videos?per_page=1", timeout=60).json()["videos"]
        for path in ("", "api/v1/videos", *(f"videos/{video['id']}" for video in videos)):
            started = time.monotonic()
            session.get(url + path, timeout=60).raise_for_status()
            seconds.append(time.monotonic() - started)
        done.wait(0.5)


def _events(api):
    last = 0
    while True:
        news = requests.get(f"{api}/events?after={last}", timeout=60).json()
        yield from news["events"]
        if not news["events"]:
            return
        last = news["last"]


if __name__ == "__main__":
    main()
