"""Captions by a running server."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import requests

from captioner.caption import Candidate, Caption, Failure
from captioner.errors import CaptionerError
from captioner.video import find_videos

_PIECE = 4 * 2**20  # bytes
_PATIENCE = 120.0  # seconds that the server may be away
_TIMEOUT = 60.0  # seconds for one answer


def caption_on_server(
    url: str, paths: Iterable[str | Path], token: str | None = None, recursive: bool = False
) -> Iterator[Caption | Failure]:
    """Sends videos to a server, waits, and yields what it says, in their order.

    All are sent before the first is waited for, so that the server always has work. They are
    deleted there when their captions are here.

    Args:
        url: of the server, `http://127.0.0.1:8080`.
        paths: files, and folders of videos.
        token: of the server, if it asks for one.
        recursive: search folders in folders too.

    Raises:
        CaptionerError: the server cannot be reached, or does not let us in.
    """
    server = _Server(url, token)
    server.ask("GET", "/videos?per_page=1")  # is it there, and does it let us in?
    files = [file for path in paths for file in _files(path, recursive)]
    sent = [(file, server.send(Path(file))) for file in files]
    for file, video in sent:
        yield (
            Failure(file, video, "") if isinstance(video, _Refused) else server.result(file, video)
        )


def _files(path, recursive):
    return map(str, find_videos(path, recursive)) if Path(path).is_dir() else [str(path)]


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
        self.ask("DELETE", f"/videos/{video}")
        if given["state"] != "done":
            reason = given["error"] or "cancelled on the server"
            return Failure(path, f"{path}: {reason}", given["model"] or "")
        candidates = tuple(
            Candidate(found["text"], found["score"], tuple(found["words"]))
            for found in given["candidates"]
        )
        times = tuple(given["times"])
        return Caption(path, candidates, given["duration"], given["model"], times)

    def _problem(self, answer):
        try:
            return answer.json()["message"]
        except (ValueError, KeyError):
            return f"it answers {answer.status_code}, which is not what captioner serve says"
