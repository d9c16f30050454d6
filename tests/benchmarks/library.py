"""The pages of a large library: `python -m tests.benchmarks.library [--videos 2000]`.

The last line on stdout is a JSON object: how many seconds each page took, the median of five,
without network and browser.
"""

import argparse
import json
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from web import create_app
from web.config import WebConfig
from web.store import database
from web.store.database import transaction

_WORDS = "man woman dog cat plays ball rolls over floor red green table walks car beach".split()
_STRETCHES = 8  # of a video
_PAGES = {
    "library": "/",
    "last page": "/?page=1000",
    "search": "/?q=dog",
    "filter and order": "/?q=dog&state=uncorrected&sort=longest",
    "video": "/videos/0",
    "correcting": "/videos/0?correct=1",
    "next to correct": "/correct",
    "next of those found": "/correct?q=dog&state=uncorrected",
    "teaching": "/teaching",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--videos", type=int, default=2000)
    number = parser.parse_args().videos
    with tempfile.TemporaryDirectory() as folder:
        config = WebConfig(data=Path(folder), min_free=0, max_storage=10**15)
        client = create_app(config).test_client()
        with closing(database.connect(config.data)) as db, transaction(db):
            for video in range(number):
                _add(db, video)
        print(json.dumps({name: _seconds(client, path) for name, path in _PAGES.items()}))


def _seconds(client, path):
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        answer = client.get(path)
        answer.get_data()
        taken.append(time.perf_counter() - started)
        assert answer.status_code in (200, 302), path
    return round(statistics.median(taken), 3)


def _add(db, number):
    """A captioned video; one of nine is corrected, one of ten waits to be captioned again."""
    rng = np.random.default_rng(number)
    now, video = time.time() - number, str(number)
    attention = rng.integers(0, 50, (_STRETCHES, 20, 49)).tolist()
    candidate = {"text": "", "score": -float(rng.random()), "words": ["a"], "attention": attention}
    caption = json.dumps({"times": list(range(20)), "candidates": [candidate] * 5})
    db.execute(
        "INSERT INTO videos (id, name, size, received, media_type, created, touched, duration, "
        "model, caption) VALUES (?, ?, 1, 1, 'video/mp4', ?, ?, 60, 'default', ?)",
        (video, f"{number}.mp4", now, now, caption),
    )
    for position in range(_STRETCHES):
        text = " ".join(rng.choice(_WORDS, 9))
        corrected = now if number % 9 == position == 0 else None
        db.execute(
            "INSERT INTO sentences (video, position, start, end, original, text, corrected) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (video, position, position * 7.5, position * 7.5 + 7.5, text, text, corrected),
        )
    state = "done" if number % 10 else "waiting"
    db.execute(
        "INSERT INTO jobs (video, state, created, started, finished) VALUES (?, ?, ?, ?, ?)",
        (video, state, now, now, now + 1),
    )


if __name__ == "__main__":
    main()
