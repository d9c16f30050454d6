import json
import os
import shutil

import pytest

from captioner.caption import Candidate, Caption, Failure, Segment
from captioner.cluster import part_files
from captioner.cluster.part_files import Parts
from captioner.errors import CaptionerError

pytest.importorskip("pyarrow", reason='needs pyarrow: pip install "captioner[ray]"')


@pytest.fixture(params=["out.parquet", "out.jsonl"])
def output(request, tmp_path):
    path = tmp_path / request.param
    return str(path) if path.suffix == ".parquet" else path.as_uri()


def _told(video, text="Something."):
    found = os.stat(video)
    candidates = (Candidate(text, -1.25),)
    segments = (Segment(0.0, 0.5, candidates), Segment(0.5, 1.0, candidates))
    file = {"size": found.st_size, "modified": found.st_mtime}
    options = "--segments 0.5"
    return Caption(str(video), candidates, 1.0, "m", segments=segments, options=options, **file)


@pytest.fixture
def videos(tmp_path):
    paths = [tmp_path / f"{name}.mp4" for name in "abc"]
    for path in paths:
        path.write_bytes(b"frames")
    return paths


def _rows(tmp_path):
    rows = []
    for path in sorted(tmp_path.glob("out.*/*")):
        if path.suffix == ".parquet":
            from pyarrow import parquet

            rows += parquet.read_table(path).to_pylist()
        else:
            rows += map(json.loads, path.read_text().splitlines())
    return rows


def test_writes_whole_rows_and_skips_what_is_done(output, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(part_files, "ROWS", 2)
    a, b, c = videos
    with Parts(output, "m") as out:
        assert a not in out
        out.write(_told(a))
        assert _rows(tmp_path) == []
        out.write(_told(b))
        assert [row["video"] for row in _rows(tmp_path)] == [str(a), str(b)]
        out.write(Failure(str(c), "c: no video", "m", 6, os.stat(c).st_mtime))
    row = _rows(tmp_path)[0]
    columns = "video caption score duration model error size modified segments options"
    assert list(row) == columns.split()
    assert row["score"] == -1.25
    assert row["modified"] == os.stat(a).st_mtime
    assert [segment["end"] for segment in row["segments"]] == [0.5, 1.0]
    with Parts(output, "m", resume=True) as out:
        assert [video in out for video in videos] == [True] * 3
        assert out.num_before == 3
    with Parts(output, "m", resume=True, retry_failed=True) as out:
        assert [video in out for video in videos] == [True, True, False]
    assert len(_rows(tmp_path)) == 2
    with pytest.raises(CaptionerError, match=r"with --segments 0.5, and this run .* photo;"):
        Parts(output, "m", resume=True, options="--style photo")
    with Parts(output, "other", resume=True) as out:
        assert a not in out
    assert len(_rows(tmp_path)) == 2


def test_drops_what_has_changed(output, videos, tmp_path):
    with Parts(output, "m") as out:
        for video in videos:
            out.write(_told(video))
    videos[1].write_bytes(b"other frames")
    with Parts(output, "m", resume=True) as out:
        assert [video in out for video in videos] == [True, False, True]
        out.write(_told(videos[1], "Else."))
    told = {row["video"][-5:]: row["caption"] for row in _rows(tmp_path)}
    assert told == {"a.mp4": "Something.", "b.mp4": "Else.", "c.mp4": "Something."}
    assert len(_rows(tmp_path)) == 3


def test_without_resume_begins_anew_and_leaves_other_files(output, videos, tmp_path):
    with Parts(output, "m") as out:
        out.write(_told(videos[0]))
    [folder] = tmp_path.glob("out.*")
    (folder / "notes.txt").touch()
    with Parts(output, "m") as out:
        pass  # nothing to write: what was there stays there
    with Parts(output, "m") as out:
        out.write(_told(videos[1]))
    assert (folder / "notes.txt").exists()
    shutil.move(f"{folder}~", tmp_path / "kept")
    (folder / "notes.txt").unlink()
    assert [row["video"] for row in _rows(tmp_path)] == [str(videos[1])]
    assert out.kept == [f"{output}~"]
    assert len(list((tmp_path / "kept").glob("part-*"))) == 1


def test_paths_that_are_no_text(output, tmp_path):
    video = os.fsdecode(bytes(tmp_path) + b"/\xff.mp4")
    open(video, "w").close()
    with Parts(output, "m") as out:
        out.write(_told(video))
    with Parts(output, "m", resume=True) as out:
        assert video in out


def test_says_what_is_wrong(tmp_path):
    with pytest.raises(CaptionerError, match=r"name it \.parquet or \.jsonl"):
        Parts(f"file://{tmp_path}/out.csv", "m")
    (tmp_path / "out.parquet").touch()
    with pytest.raises(CaptionerError, match=r"out\.parquet: cannot be written"):
        Parts(str(tmp_path / "out.parquet"), "m")
    (tmp_path / "in.parquet").mkdir()
    (tmp_path / "in.parquet" / "part-1.parquet").write_text("words")
    with pytest.raises(CaptionerError, match="holds no rows of captions"):
        Parts(str(tmp_path / "in.parquet"), "m", resume=True)
