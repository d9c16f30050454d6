"""Stretches arranged by people, and undo, through the API."""

import pytest

from web.store import database, models

from .conftest import work
from .fakes import FakeCaptioner, in_stretches


class InStretches(FakeCaptioner):
    """Says something of each third."""

    def caption(self, video):
        return in_stretches(super().caption(video))


@pytest.fixture
def ask(client, send, clips, config):
    """Asks for something of a video of three stretches, 0 to 1.6 s: `ask(method, path, json)`."""
    video = send(clips["red"]).json["id"]
    work(config, lambda *_: InStretches())

    def ask(method, path="", status=200, **json):
        sent = {"query_string": json} if method == "DELETE" else {"json": json or None}
        answer = client.open(f"/api/v1/videos/{video}{path}", method=method, **sent)
        assert answer.status_code == status, answer.json
        return answer.json

    ask.video = video
    return ask


def _told(answer):
    return [
        (round(row["start"], 2), round(row["end"], 2), row["text"], row["corrected"])
        for row in answer["sentences"][1:]
    ]


QUIET, LIVELY, LONG = (f"Part {n}." for n in range(3))


@pytest.fixture
def named(ask):
    """The same with short sentences, all a person's."""
    for position, text in enumerate((QUIET, LIVELY, LONG), 1):
        answer = ask("PUT", f"/sentences/{position}", text=text)
    ask.starts = [row["start"] for row in answer["sentences"][1:]]
    return ask


def test_borders_move_and_those_that_touch_move_along(named):
    was = named.starts[1]
    told = _told(named("PATCH", "/sentences/2", was=was, start=0.3, end=1.2))
    assert told == [(0, 0.3, QUIET, True), (0.3, 1.2, LIVELY, True), (1.2, 1.6, LONG, True)]
    # One that goes beyond its neighbour, or the video, is refused and changes nothing.
    for start, end in ((0.3, 1.6), (0.0, 1.2), (1.3, 1.2), (0.3, 9.0)):
        refused = named("PATCH", "/sentences/2", status=409, was=0.3, start=start, end=end)
        assert refused["code"] == "no_room"
    # So is one that somebody else has moved meanwhile, and one that is not there.
    assert named("PATCH", "/sentences/2", status=409, was=was, end=1.0)["code"] == "changed"
    named("PATCH", "/sentences/4", status=404, was=1.6, end=1.7)
    assert _told(named("GET")) == told


def test_split_merge_delete_add_and_all_of_it_undone(named):
    states = [_told(named("GET"))]
    steps = [
        ("POST", "/sentences/1/split", {"was": 0.0, "at": 0.2}),
        ("DELETE", "/sentences/1", {"was": 0.0}),
        ("POST", "/sentences/1/merge", {"was": 0.2}),
        ("POST", "/sentences", {"start": 0.05, "end": 0.3, "text": "  Before\nit. "}),
    ]
    for method, path, given in steps:
        status = 201 if path == "/sentences" else 200
        states.append(_told(named(method, path, status=status, **given)))
    both = f"{QUIET} {LIVELY}"
    border = states[0][1][1]
    assert states[1][:2] == [(0, 0.2, QUIET, True), (0.2, states[0][0][1], QUIET, True)]
    assert states[2][0] == states[1][1]
    assert states[3] == [(0.2, border, both, True), (border, 1.6, LONG, True)]
    assert states[4] == [(0.05, 0.3, "Before it.", True), (0.3, border, both, True), states[3][1]]
    assert named("POST", "/sentences/3/merge", status=409, was=border)["code"] == "no_next"
    covering = {"start": 0.0, "end": 1.0, "text": "x"}
    assert named("POST", "/sentences", status=409, **covering)["code"] == "no_room"
    # A stretch that no model said anything of cannot go back to what it said.
    assert named("PUT", "/sentences/1", status=409, text=None)["code"] == "no_sentence"

    for before, change in zip(states[-2::-1], ("add", "merge", "delete", "split"), strict=True):
        assert named("GET")["undo"] == change
        assert _told(named("POST", "/undo")) == before
    for _ in range(3):
        assert named("GET")["undo"] == "correct"
        untouched = named("POST", "/undo")
    assert untouched["undo"] is None
    assert not any(row["corrected"] for row in untouched["sentences"])
    assert named("POST", "/undo", status=409)["code"] == "nothing_to_undo"


def test_what_was_arranged_or_corrected_stands_when_it_is_captioned_again(ask, config):
    class Other(InStretches):
        def caption(self, video):
            caption = super().caption(video)
            for segment in caption.segments:
                object.__setattr__(segment.candidates[0], "text", "Another model's.")
            return caption

    ask("POST", "/sentences/1/split", was=0.0, at=0.2)
    before = ask("PUT", "/sentences/1", text="Mine.")
    ask("POST", "/retry")
    work(config, lambda *_: Other("other"))
    again = ask("GET")
    assert [row[:2] for row in _told(again)] == [row[:2] for row in _told(before)]
    # Only what the model cuts likewise is said anew.
    texts = [row[2] for row in _told(again)]
    assert texts == ["Mine.", _told(before)[1][2], "Another model's.", "Another model's."]
    assert again["model"] == "other"
    undone = ask("POST", "/undo")
    assert (undone["model"], undone["sentences"]) == ("default", before["sentences"])
    assert undone["candidates"] == before["candidates"]

    # A video that another model cuts otherwise keeps a corrected stretch, at its time.
    for _ in range(2):
        ask("POST", "/undo")
    ask("PUT", "/sentences/3", text="Mine.")
    ask("POST", "/retry")
    work(config, FakeCaptioner.load)
    assert _told(ask("GET"))[2][2:] == ("Mine.", True)


def test_a_video_without_sentences_has_nothing_to_arrange(client, send, clips):
    video = send(clips["red"]).json["id"]
    given = {"start": 0, "end": 1, "text": "x"}
    answer = client.post(f"/api/v1/videos/{video}/sentences", json=given)
    assert (answer.status_code, answer.json["code"]) == (409, "not_captioned")
    assert client.post("/api/v1/videos/none/sentences", json=given).status_code == 404
    assert client.post("/api/v1/videos/none/undo").status_code == 404


def test_corrected_stretches_are_taught_with_the_times_they_were_given(named, config):
    named("PATCH", "/sentences/2", was=named.starts[1], start=0.3, end=1.2)
    db = database.connect(config.data)
    taught = [(row["start"], row["end"], row["text"]) for row in models.corrections(db)]
    db.close()
    assert taught == [(0, 0.3, QUIET), (0.3, 1.2, LIVELY), (1.2, 1.6, LONG)]


def test_of_a_video_the_last_changes_are_kept(ask):
    for number in range(25):
        ask("PUT", "/sentences/1", text=f"Number {number}.")
    for number in range(23, 3, -1):
        assert _told(ask("POST", "/undo"))[0][2] == f"Number {number}."
    assert ask("POST", "/undo", status=409)["code"] == "nothing_to_undo"
