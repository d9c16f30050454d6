"""HTTP client: videos to a running server, captions back."""

import os
import threading
import time
from collections import deque
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import requests

from captioner.caption import Candidate, Caption, Failure
from captioner.errors import CaptionerError, VideoError
from captioner.video import find_videos

AHEAD = 16  # videos that are sent before the first of them has its caption
_PIECE = 4 * 2**20  # bytes
_PATIENCE = 120.0  # seconds that the server may be away
_TIMEOUT = 60.0  # seconds for one answer


def caption_on_server(
    url: str,
    paths: Iterable[str | Path],
    token: str | None = None,
    recursive: bool = False,
    done: Container[str] = (),
    stop: threading.Event | None = None,
) -> Iterator[Caption | Failure]:
    """Uploads videos to a server, waits for their captions, and yields these in order.

    Some are sent ahead, so that the server always has work. They are deleted there when their
    captions are here, or when nobody waits for them any more.

    Args:
        url: of the server, `http://127.0.0.1:8080`.
        paths: files, and folders of videos.
        token: of the server, if it asks for one.
        recursive: search folders in folders too.
        done: paths to leave out.
        stop: once set, no caption is waited for after the one that is.

    Raises:
        CaptionerError: the server cannot be reached, or does not let us in.
    """
    server = _Server(url, token)
    server.expect_captioner()
    files = (file for path in paths for file in _files(path, recursive))
    files = (file for file in files if isinstance(file, Failure) or file not in done)
    sent: deque[tuple[str | Failure, str]] = deque()
    try:
        while stop is None or not stop.is_set():
            for file in islice(files, AHEAD - len(sent)):
                sent.append((file, "" if isinstance(file, Failure) else server.send(Path(file))))
            if not sent:
                return
            file, video = sent[0]
            if isinstance(file, Failure):
                result = file
            elif isinstance(video, _Refused):
                result = _with_facts(Failure(file, video, ""))
            else:
                result = _with_facts(server.result(file, video))
            sent.popleft()
            yield result
    finally:
        server.forget(video for _, video in sent if video and not isinstance(video, _Refused))


def _files(path, recursive) -> Iterator[str | Failure]:
    if not Path(path).is_dir():
        yield str(path)
        return
    empty = True
    try:
        for video in find_videos(path, recursive):
            empty = False
            yield str(video)
    except VideoError as err:
        yield Failure(str(path), str(err), "")
        return
    if empty:
        deeper = "" if recursive else "; --recursive searches the folders in it too"
        yield Failure(str(path), f"{path}: holds no video or picture{deeper}", "")


def _with_facts(result: Caption | Failure) -> Caption | Failure:
    """Size and time of the file, by which a later run sees whether it has changed."""
    try:
        found = os.stat(result.video)
    except OSError:  # it has none, and the result says so
        return result
    return replace(result, size=found.st_size, modified=found.st_mtime)


class _Refused(str):
    """Why the server, or the disk, refused one file."""


class _Server:
    def __init__(self, url, token):
        self.url = url.rstrip("/")
        self.session = requests.Session()
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def ask(self, method, path, **kwargs):
        """One request; waits while the server is away or asks for patience."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                answer = self.session.request(
                    method, f"{self.url}/api/v1{path}", timeout=_TIMEOUT, **kwargs
                )
                if answer.status_code not in (429, 502, 503, 504):
                    break
                problem = self._problem(answer)
            except (requests.ConnectionError, requests.Timeout):
                problem = "it does not answer"
            except requests.RequestException as err:
                raise CaptionerError(f"{self.url}: {err}; check the address") from err
            if time.monotonic() > until:
                raise CaptionerError(f"{self.url}: {problem}; is captioner serve running there?")
            time.sleep(1)
        if answer.status_code in (401, 403):
            raise CaptionerError(f"{self.url}: {self._problem(answer)}")
        return answer

    def expect_captioner(self):
        """Makes sure that it is there, is what we think, and lets us in."""
        answer = self.ask("GET", "/videos?per_page=1")
        try:
            known = answer.ok and "total" in answer.json()
        except ValueError:
            known = False
        if not known:
            raise CaptionerError(
                f"{self.url}: {self._problem(answer)}; give the address that the page has, without "
                "what follows its host and port, unless it is served under a path"
            )

    def send(self, path):
        """The id of a video that was sent, or why it was not."""
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                if not size:
                    return _Refused(f"{path}: the file is empty; copy or download it again")
                answer = self.ask("POST", "/videos", json={"name": path.name, "size": size})
                offset, video = 0, answer.json().get("id")
                while answer.ok and offset < size:
                    file.seek(offset)
                    answer = self.ask(
                        "PATCH",
                        f"/videos/{video}/content",
                        data=file.read(_PIECE),
                        headers={
                            "Upload-Offset": str(offset),
                            "Content-Type": "application/octet-stream",
                        },
                    )
                    if answer.status_code == 409:  # a piece came twice, or not at all
                        answer = self.ask("GET", f"/videos/{video}")
                    offset = answer.json().get("received", offset)
        except OSError as err:
            return _Refused(f"{path}: {err.strerror}; check the path")
        return video if answer.ok else _Refused(f"{path}: {self._problem(answer)}")

    def result(self, path, video):
        """Waits for a video's caption."""
        while True:
            answer = self.ask("GET", f"/videos/{video}")
            given = answer.json()
            if not answer.ok:
                return Failure(path, f"{path}: {given['message']}", "")
            if given["state"] in ("done", "failed", "cancelled"):
                break
            time.sleep(0.3)
        self.ask("DELETE", f"/videos/{video}?forever=true")
        if given["state"] != "done":
            reason = given["error"] or "cancelled on the server"
            return Failure(path, f"{path}: {reason}", given["model"] or "")
        candidates = tuple(
            Candidate(found["text"], found["score"], tuple(found["words"]))
            for found in given["candidates"]
        )
        times = tuple(given["times"])
        return Caption(path, candidates, given["duration"], given["model"], times)

    def forget(self, videos):
        """Deletes videos as far as the server answers at once; it is asked on the way out."""
        for video in videos:
            try:
                self.session.delete(f"{self.url}/api/v1/videos/{video}", timeout=5)
            except requests.RequestException:  # what ended the upload is what matters
                return

    def _problem(self, answer):
        try:
            return answer.json()["message"]
        except (ValueError, KeyError):
            return f"it answers {answer.status_code}, which is not what captioner serve says"
