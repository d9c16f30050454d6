import os

import numpy as np
import pytest

from captioner.cluster.stores import Stored, fetched, find_stored, open_store
from captioner.errors import CaptionerError, VideoError
from tests.clips import write_clip

fs = pytest.importorskip("pyarrow.fs", reason='needs pyarrow: pip install "captioner[ray]"')


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "my clips"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.avi", "a.avi", "deep/c.avi"):
        write_clip(folder / name, [np.zeros((48, 64, 3), np.uint8)] * 3, codec="MJPG")
    for name in ("notes.txt", ".hidden.avi"):
        (folder / name).touch()
    return folder


def test_finds_what_a_folder_on_disk_has(folder):
    address = folder.as_uri()
    assert "%20" in address
    found = list(find_stored(address))
    assert [name for name, _ in found] == ["a.avi", "b.avi"]
    assert [str(stored) for _, stored in found] == [f"{address}/a.avi", f"{address}/b.avi"]
    names = [name for name, _ in find_stored(address + "/", recursive=True)]
    assert names == ["a.avi", "b.avi", "deep/c.avi"]
    [(name, stored)] = find_stored(f"{address}/b.avi")
    assert (name, str(stored)) == ("b.avi", f"{address}/b.avi")


def test_copies_with_its_time_and_cleans_up(folder):
    elsewhere = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
    stored = Stored("s3://bucket/a.avi", elsewhere, "a.avi", modified=10**9)
    with fetched(stored) as path:
        with open(path, "rb") as copy:
            assert copy.read() == (folder / "a.avi").read_bytes()
        assert os.stat(path).st_mtime == 1.0
        assert path.endswith(".avi")
    assert not os.path.exists(os.path.dirname(path))


def test_says_what_is_not_there(folder):
    with pytest.raises(VideoError, match="no such file or folder"):
        list(find_stored(f"{folder.as_uri()}/none"))
    gone = Stored("file:///none.avi", fs.LocalFileSystem(), "/none.avi")
    with pytest.raises(VideoError, match=r"file:///none\.avi: cannot be fetched"), fetched(gone):
        pass
    with pytest.raises(CaptionerError, match="gopher://x: cannot be reached"):
        open_store("gopher://x")
