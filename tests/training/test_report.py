import base64
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from captioner.errors import DatasetError
from tests.conftest import draw_shape_clip
from training.data.manifest import LabelledClip
from training.judgement import judge
from training.metrics import score
from training.moments.labels import Moment
from training.moments.timeline import Timeline
from training.report import Report, Said
from training.trainer import then_rewarded

HISTORY = [
    {"epoch": 2, "loss": 4.0, "val_loss": 4.5, "val_cider": 0.25, "seconds": 60.0},
    {"epoch": 4, "loss": 2.0, "val_loss": 3.5, "val_cider": 1.5, "seconds": 140.0},
    {"epoch": 6, "loss": 1.0, "val_loss": 3.75, "val_cider": 1.0, "seconds": 100.0},
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Twenty clips, of which all but the first have vanished."""
    folder = tmp_path_factory.mktemp("shown")
    colours = "red blue green white".split()
    sentences = [f"A {colours[n % 4]} ball rolls {n} metres" for n in range(20)]
    clips = [
        LabelledClip(folder / f"{n}.avi", (sentence,), "val")
        for n, sentence in enumerate(sentences)
    ]
    draw_shape_clip(clips[0].path, "red", "circle")
    clips[1] = replace(clips[1], captions=("<script>alert('people')</script>", "A ball."))
    return clips


@pytest.fixture(scope="module")
def report(clips):
    references = [clip.captions for clip in clips]
    right = [captions[0] for captions in references]
    new = [*right[:1], "<script>alert('model')</script>", *right[2:9], *["a newt"] * 10, right[-1]]
    old = ["a ball"] * len(clips)
    return Report(
        model=Path("my models/balls"),
        history=HISTORY,
        curves={"Loss": ("loss", "val_loss"), "CIDEr": ("val_cider",)},
        kept=4,
        counts={"clips of the split train": 180},
        left_out=[("labels.csv, row <7>", "no caption; left out")],
        settings={"Training": {"learning_rate": 0.001}},
        command=("captioner", "caption", "--model", "my models/balls", "clip.mp4"),
        clips=clips,
        new=Said(new, replace(score(new, references, java=False), left_out={"spice": "no Java"})),
        old=Said(old, score(old, references, java=False)),
    )


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    file = tmp_path_factory.mktemp("report") / "report.html"
    report.write(file)
    assert [path.name for path in file.parent.iterdir()] == ["report.html"]
    return file.read_text(encoding="utf-8")


def test_page_tells_what_there_is_to_tell(report, page):
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "6 passes over the data, 5 min of learning. Kept is what it was after pass 4" in text
    assert "captioner caption --model &#39;my models/balls&#39; clip.mp4" in text
    for name, value in report.new.scores.corpus.items():
        low, high = report.new.scores.intervals[name]
        before = report.old.scores.corpus[name]
        assert f"{value:.3f} {low:.3f} to {high:.3f} {value - before:+.3f}" in text
    assert "clips of the split train 180" in text
    assert "labels.csv, row &lt;7&gt; no caption; left out" in text
    assert "learning_rate 0.001" in text
    assert "spice was left out: no Java" in text


def test_clips_are_the_best_the_worst_and_some_between(report, page):
    ciders = report.new.scores.clips["cider"]
    groups = page.split("<h3>")[1:4]
    shown = [re.findall(r"(\d+)\.avi</p>|(\d+)\.avi;", group) for group in groups]
    shown = [[int(a or b) for a, b in group] for group in shown]
    assert [group.split("</h3>")[0] for group in groups] == [
        "Best clips",
        "Worst clips",
        "Clips between",
    ]
    best, worst, between = shown
    assert len(best) == len(worst) == len(between) == 6
    assert len({*best, *worst, *between}) == 18
    assert sorted(ciders[best])[::-1] == list(ciders[best]) == sorted(ciders)[:-7:-1]
    assert list(ciders[worst]) == sorted(ciders)[:6]
    first = next(article for article in page.split("<article") if "0.avi</p>" in article)
    text = " ".join(re.sub(r"<[^>]+>", " ", first).split())
    words = f"old model a ball {report.old.scores.clips['cider'][0]:.2f} new model A red ball"
    assert words in text


def test_page_shows_the_judgement_where_there_is_no_split_val(report, tmp_path):
    pairs = [
        {"wanted": [f"a {what} in the snow"], "old": "a <b>man</b>", "new": f"a {what}"}
        for what in ("dog", "cat", "newt")
    ]
    judgement = judge(pairs, ["a dog"], (["a man"] * 4, ["a man"] * 3 + ["a cat"]))
    replace(report, clips=(), new=None, old=None, judgement=judgement).write(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert judgement.describe().replace("&", "&amp;") in text
    assert "Of 4 clips that the old model had learned from, both say the same of 75 %" in text
    assert text.count("old model a &lt;b&gt;man&lt;/b&gt; new model a") == 3
    assert "nothing tells how good" not in text


def test_page_is_self_contained_and_runs_nothing(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;model&#39;)" in page
    assert "&lt;script&gt;alert(&#39;people&#39;)" in page
    assert not re.search(r"https?:|<link|@import|url\(", page)
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 4
    for source in sources:
        jpeg = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (180, 240, 3)
        assert picture[..., 2].max() > 200  # the ball is red, not blue
        assert picture[..., 0].max() < 120


def test_a_clip_that_vanished_is_told_of_in_its_place(clips, page):
    assert f"No pictures: {clips[2].path}: No such file" in page


def test_curves_go_through_their_points(page):
    charts = page.split("<svg")[1:]
    (loss,), (val_loss,) = (
        re.findall(rf'<polyline class="line-{line}"[^>]*points="([^"]+)"', charts[0])
        for line in (1, 2)
    )
    points = [tuple(map(float, point.split(","))) for point in loss.split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 - y0 == pytest.approx(2 * (y2 - y1), abs=0.3)  # 4 to 2, 2 to 1; y points down
    assert y0 < y1 < y2
    middle = float(val_loss.split()[1].split(",")[1])  # 3.5
    assert middle == pytest.approx(y0 + (y1 - y0) / 4, abs=0.2)
    assert f'class="best" x1="{x1}"' in charts[0]
    assert "val_cider 1.000" in charts[1]


def test_without_validation_or_base(report, tmp_path):
    alone = replace(report, old=None)
    alone.write(tmp_path / "alone.html")
    assert "old model" not in (tmp_path / "alone.html").read_text()
    blind = [{"epoch": 5, "loss": 1.0, "seconds": 1.0}]
    replace(report, old=None, new=None, clips=(), history=blind, kept=5).write(tmp_path / "b.html")
    page = (tmp_path / "b.html").read_text()
    assert "nothing of the split val" in page
    assert page.count("<polyline") == 1


def test_a_file_that_cannot_be_written(report, tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(DatasetError, match="cannot be written"):
        report.write(tmp_path / "report.html")


def test_self_critical_training_goes_on_where_the_other_ended(report, tmp_path):
    after = [{"epoch": 1, "loss": -1.25, "val_loss": 4.0, "val_cider": 1.75, "seconds": 20.0}]
    history = then_rewarded(HISTORY, after)
    assert history[:-1] == HISTORY
    last = {"epoch": 7, "reward": 1.25, "val_loss": 4.0, "val_cider": 1.75, "seconds": 20.0}
    assert history[-1] == last
    curves = {"Loss": ("loss", "val_loss"), "CIDEr": ("val_cider", "reward")}
    replace(report, history=history, curves=curves, kept=7).write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<polyline") == 4
    assert "loss 1.000, val_loss 4.000" in page


def test_timelines_of_a_labelling_model(report, tmp_path):
    true = (Moment("walk", 0.0, 4.0), Moment("<run>", 4.0, 10.0))
    said = (Moment("walk", 1.0, 5.0), Moment("<run>", 5.0, 10.0))
    timelines = [Timeline("a.mp4", true, said), Timeline("b.mp4", (), ())]
    labelling = replace(report, new=None, old=None, clips=(), timelines=timelines)
    labelling.write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "&lt;run&gt;" in page
    assert "<run>" not in page
    bars = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', page)
    expected = [(0, 0, 400, 20), (400, 0, 600, 20), (100, 24, 400, 20), (500, 24, 500, 20)]
    assert [tuple(map(float, bar)) for bar in bars] == expected
    over = Timeline("c.mp4", (*true, Moment("wave", 2.0, 3.0)), ())  # while walking
    replace(labelling, timelines=[over]).write(tmp_path / "report.html")
    bars = re.findall(
        r'y="([\d.]+)" width="[\d.]+" height="6.7"', (tmp_path / "report.html").read_text()
    )
    assert len(set(bars)) == 3
