"""Every format that labels come in, on small samples as their makers write them."""

import json

import pytest

from captioner.errors import DatasetError
from training.data.formats import known_split
from training.data.manifest import LabelledClip, load_labels, read_labels


@pytest.fixture
def folder(tmp_path):
    """Makes empty files to be found, and a file of labels."""

    class Folder:
        path = tmp_path

        def files(self, *names):
            for name in names:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_bytes(b"")

        def labels(self, name, content, encoding="utf-8"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text, encoding=encoding)
            return path

        def clip(self, name, *captions, split="train", start=0.0, end=None):
            return LabelledClip(tmp_path / name, captions, split, start, end)

    return Folder()


def test_json_lines(folder):
    rows = [
        {"video": "a.mp4", "captions": ["One.", "Two."], "split": "val"},
        {"image": "deep/b.jpg", "caption": "Three."},
        {"video": "c.mp4", "caption": "Four.", "split": "test", "start": 1.5, "end": 3},
    ]
    path = folder.labels("labels.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_labels(path) == [
        folder.clip("a.mp4", "One.", "Two.", split="val"),
        folder.clip("deep/b.jpg", "Three."),
        folder.clip("c.mp4", "Four.", split="test", start=1.5, end=3.0),
    ]
    assert [clip.path.name for clip in read_labels(path, "train")] == ["b.jpg"]


def test_clips_that_come_as_frames(folder):
    rows = [
        {"id": "a", "frames": ["a/2.jpg", "a/1.jpg"], "caption": "One.", "split": "val"},
        {"video": "b.mp4", "frames": 250, "caption": "Two.", "split": "train"},
        {"frames": ["c/1.jpg"], "caption": "Three.", "start": 2},
        {"frames": [], "caption": "Four."},
        {"frames": ["d/1.jpg", 7], "caption": "Five."},
    ]
    labels = load_labels(folder.labels("labels.jsonl", "\n".join(map(json.dumps, rows))))
    frames = tuple(folder.path / name for name in ("a/2.jpg", "a/1.jpg"))
    first, second = labels.clips
    assert first == LabelledClip(frames[0], ("One.",), "val", frames=frames)
    assert second == folder.clip("b.mp4", "Two.")
    assert [(problem.where, problem.message[:24]) for problem in labels.problems] == [
        ("line 3", "frames have no times; le"),
        ("line 4", "names no file; expected "),
        ("line 5", "expected text, found 7"),
    ]


def test_json_lines_of_one_line(folder):
    path = folder.labels("train.jsonl", '{"video": "a.mp4", "caption": "One."}')
    assert read_labels(path) == [folder.clip("a.mp4", "One.")]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("path,caption,split\na.mp4,Ein Bär,val\n", "utf-8"),
        ("Video Path;Beschreibung;Description;Set\r\na.mp4;x;Ein Bär;Val\r\n", "utf-8-sig"),
        ('"File_Name"\t"Caption"\t"subset"\n"a.mp4"\t"Ein Bär"\t"validation"\n', "utf-16"),
        ("split|sentence|file\nval|Ein Bär|a.mp4\n", "cp1252"),
        ("split, path, caption\n\nval, a.mp4, Ein Bär\n", "utf-8"),
    ],
)
def test_csv(content, encoding, folder):
    folder.files("a.mp4")
    path = folder.labels("any.name", content, encoding)
    assert read_labels(path) == [folder.clip("a.mp4", "Ein Bär", split="val")]


def test_csv_without_header_whose_sentences_have_commas(folder):
    path = folder.labels("train.csv", 'a.mp4,A dog, a cat\nb.mp4,"Two, or\nthree."\na.mp4,Pets\n')
    assert read_labels(path) == [
        folder.clip("a.mp4", "A dog, a cat", "Pets"),
        folder.clip("b.mp4", "Two, or\nthree."),
    ]


def test_csv_with_stretches_and_several_captions(folder):
    path = folder.labels(
        "train.csv",
        "video,from,to,caption 1,caption 2\na.mp4,0:01:02.5,63,One,Two\na.mp4,70,,Three,\n",
    )
    labels = load_labels(path)
    assert labels.clips == [
        folder.clip("a.mp4", "One", "Two", start=62.5, end=63.0),
        folder.clip("a.mp4", "Three", start=70.0),
    ]
    assert [problem.message for problem in labels.problems] == ["an empty caption, ''; left out"]


@pytest.mark.parametrize(
    ("row", "captions"),
    [
        ('"stop" is on the sign', ['"stop" is on the sign']),
        ('"a ""stop"" sign, red"', ['a "stop" sign, red']),
        ('a 6" pipe', ['a 6" pipe']),
        ('"two\nlines"', ["two\nlines"]),
        ('"two\n\nlines of ""several"""', ['two\n\nlines of "several"']),
        ('["One.", "Two."]', ["One.", "Two."]),
        ("['One.', 'Two.']", ["One.", "Two."]),
        ('{"text": ["One.", "Two."]}', ["One.", "Two."]),
        ("[Music] plays", ["[Music] plays"]),
        ("[Applause]", ["[Applause]"]),
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_cells_with_quotes_and_lists(row, captions, delimiter, folder):
    if row[0] in "[{":
        row = '"' + row.replace('"', '""') + '"'
    text = "image,caption\n1.jpg,a cat\n2.jpg,ROW\n3.jpg,a bird\n".replace(",", delimiter)
    labels = load_labels(folder.labels("train.tsv", text.replace("ROW", row)))
    assert [list(clip.captions) for clip in labels.clips] == [["a cat"], captions, ["a bird"]]
    assert not labels.problems


@pytest.mark.parametrize("end", ["", '5.jpg,"quoted"\n', '5.jpg,a 6" pipe\n', '5.jpg,at last"\n'])
@pytest.mark.parametrize("name", ["{}.jpg", "video{}", "-_hbPLsZ{}vo"])
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_quote_left_open_swallows_no_other_row(end, name, delimiter, folder):
    text = f'image,caption\n1.jpg,a cat\n2.jpg,"left open\n4.jpg,a bird\n{end}'
    for number in "1245":
        made = name.format("aBcDeF"[int(number)]) if "-" in name else name.format(number)
        text = text.replace(f"{number}.jpg", made)
    labels = load_labels(folder.labels("train.csv", text.replace(",", delimiter)))
    said = [caption for clip in labels.clips for caption in clip.captions]
    assert said[:2] == ["a cat", "a bird"]
    assert len(said) == 2 + bool(end)
    assert not any("\n" in caption or "left open" in caption for caption in said)
    [problem] = labels.problems
    assert (problem.where, problem.message[:17]) == ("line 3", "a quote is opened")


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("nan", "what is missing"),
        ("#N/A", "what is missing"),
        ("3", "no letter"),
        ("1.jpg", "a file or an address"),
        ("https://host/clip.mp4", "a file or an address"),
        ("<p>A dog runs.</p>", "markup"),
        ("A caf\u00c3\u00a9 is open.", "another encoding"),
        ("A caf\ufffd is open.", "another encoding"),
        ("A dog &amp; a cat.", "markup"),
        ({"rating": 3}, "expected a sentence"),
        ({"text": ["One."], "start": 1, "end": 2}, "expected a sentence of the whole clip"),
        (["a", "dog", "runs"], "join them"),
        ([3], "expected text"),
    ],
)
def test_what_nobody_says_is_left_out_and_told(caption, message, folder):
    rows = [{"video": "a.mp4", "caption": "A dog runs."}, {"video": "b.mp4", "caption": caption}]
    labels = load_labels(folder.labels("train.jsonl", "\n".join(map(json.dumps, rows))))
    assert labels.clips == [folder.clip("a.mp4", "A dog runs.")]
    [problem] = labels.problems
    assert problem.where == "line 2"
    assert message in problem.message


def test_a_field_that_is_there_twice_is_told(folder):
    row = '{"video": "a.mp4", "caption": "One.", "caption": "Two."}'
    labels = load_labels(folder.labels("a.jsonl", f'{row}\n{{"video": "b.mp4", "caption": "Hi."}}'))
    [problem] = labels.problems
    assert "names 'caption' twice" in problem.message


def test_lines_of_several_encodings(folder):
    path = folder.labels("train.csv", "")
    path.write_bytes(b"path,caption\na.mp4,a caf\xc3\xa9\nb.mp4,a caf\xe9\n")
    assert read_labels(path) == [folder.clip("a.mp4", "a café"), folder.clip("b.mp4", "a café")]


def test_flickr(folder):
    folder.files("Flicker8k_Dataset/1_6.jpg", "Flicker8k_Dataset/2.jpg")
    text = "1_6.jpg#0\tA child , in pink .\n1_6.jpg#1\tA girl .\n2.jpg#0\tA dog .\n"
    expected = [
        folder.clip("Flicker8k_Dataset/1_6.jpg", "A child , in pink .", "A girl ."),
        folder.clip("Flicker8k_Dataset/2.jpg", "A dog ."),
    ]
    labels = load_labels(folder.labels("Flickr8k.token.txt", text), val=0, test=0)
    assert (labels.clips, labels.problems) == (expected, [])
    rows = text.replace("#", "| ").replace("\t", "| ")
    labels = load_labels(
        folder.labels("results.csv", f"image_name| comment_number| comment\n{rows}"), val=0, test=0
    )
    assert (labels.clips, labels.problems) == (expected, [])


def test_folder_of_texts(folder):
    folder.files("train/a.mp4", "val/deep/b.jpg", "val/c.mp4")
    folder.labels("train/a.txt", "One.\n\nTwo.\n")
    folder.labels("val/deep/b.txt", "\ufeffThree.")
    folder.labels("val/readme.txt", "Nothing.")
    labels = load_labels(folder.path)
    assert labels.clips == [
        folder.clip("train/a.mp4", "One.", "Two."),
        folder.clip("val/deep/b.jpg", "Three.", split="val"),
    ]
    assert [(problem.where, problem.message) for problem in labels.problems] == [
        ("val/c.mp4", "has no caption: there is no c.txt beside it"),
        ("val/readme.txt", "there is no clip of its name beside it"),
    ]


MSVD = """VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description
mv89psg6zh4,33,46,588702,unverified,55,Slovene,Papagaj se umiva pod tekočo vodo.
mv89psg6zh4,33,46,362812,clean,30,English,A bird is bathing in a sink.
-_hbPLsZvvo,5,8,12345,clean,12,English,"A dog runs, and barks."
"""


def test_msvd_csv(folder):
    folder.files("YouTubeClips/mv89psg6zh4_33_46.avi", "videos/-_hbPLsZvvo.mp4")
    labels = load_labels(folder.labels("MSR Video Description Corpus train.csv", MSVD))
    assert labels.clips == [
        folder.clip("YouTubeClips/mv89psg6zh4_33_46.avi", "A bird is bathing in a sink."),
        folder.clip("videos/-_hbPLsZvvo.mp4", "A dog runs, and barks.", start=5.0, end=8.0),
    ]
    assert not labels.problems


def test_msvd_text(folder):
    folder.files("YouTubeClips/mv89psg6zh4_33_46.avi")
    text = (
        "# MSVD\n\nmv89psg6zh4_33_46 a bird in a sink\nmv89psg6zh4_33_46 a bird\n-_hb_5_8 a dog\n"
    )
    labels = load_labels(folder.labels("AllVideoDescriptions.txt", text), val=0, test=0)
    assert labels.clips == [
        folder.clip("YouTubeClips/mv89psg6zh4_33_46.avi", "a bird in a sink", "a bird"),
        folder.clip("-_hb", "a dog", start=5.0, end=8.0),
    ]


def test_msrvtt(folder):
    folder.files("TrainValVideo/video0.mp4", "TrainValVideo/video1.mp4")
    info = {"contributor": "Microsoft", "year": "2016"}
    video = {"url": "https://www.youtube.com/watch?v=9lZi22qLlEo", "category": 9}
    videos = [
        {**video, "video_id": "video0", "start time": 137.7, "split": "train"},
        {
            **video,
            "video_id": "video1",
            "start time": 184.3,
            "end time": 207.8,
            "split": "validate",
        },
    ]
    sentences = [
        {"caption": "a car is shown", "video_id": "video1", "sen_id": 0},
        {"caption": "a family is having coversation", "video_id": "video0", "sen_id": 1},
        {"caption": "a man drives", "video_id": "video1", "sen_id": 2},
    ]
    data = {"info": info, "videos": videos, "sentences": sentences}
    assert read_labels(
        folder.labels("train_val_annotation/train_val_videodatainfo.json", data)
    ) == [
        folder.clip("TrainValVideo/video1.mp4", "a car is shown", "a man drives", split="val"),
        folder.clip("TrainValVideo/video0.mp4", "a family is having coversation"),
    ]


def test_coco(folder):
    name = "COCO_val2014_000000203564.jpg"
    folder.files(f"val2014/{name}", "train2014/COCO_train2014_000000000009.jpg")
    annotations = [
        {"image_id": 203564, "id": 37, "caption": "A bicycle replica."},
        {"image_id": 203564, "id": 38, "caption": "A black bicycle."},
        {"image_id": 9, "id": 39, "caption": "Nothing."},
    ]
    images = [{"license": 4, "file_name": name, "height": 400, "width": 300, "id": 203564}]
    data = {"info": {}, "images": images, "licenses": [], "annotations": annotations}
    labels = load_labels(folder.labels("annotations/captions_val2014.json", data))
    captions = ("A bicycle replica.", "A black bicycle.")
    assert labels.clips == [folder.clip(f"val2014/{name}", *captions, split="val")]
    [problem] = labels.problems
    assert (problem.where, problem.message) == ("annotation 3", "there is no image 9")


def test_coco_as_karpathy_splits_it(folder):
    folder.files("val2014/COCO_val2014_000000391895.jpg")
    sentence = {"tokens": ["a", "man"], "raw": "A man.", "imgid": 0, "sentid": 770337}
    image = {
        "filepath": "val2014",
        "filename": "COCO_val2014_000000391895.jpg",
        "split": "restval",
        "sentences": [sentence],
    }
    path = folder.labels("dataset_coco.json", {"images": [image], "dataset": "coco"})
    assert read_labels(path) == [folder.clip("val2014/COCO_val2014_000000391895.jpg", "A man.")]


def test_activitynet(folder):
    folder.files("videos/v_uqiMw7tQ1Cc.mp4", "videos/bXdq2zI1Ms0.mkv")
    data = {
        "v_uqiMw7tQ1Cc": {
            "duration": 55.15,
            "timestamps": [[0.28, 55.15], [13.79, 54.32]],
            "sentences": ["A weight lifting tutorial is given.", " The coach helps the guy."],
        },
        "v_bXdq2zI1Ms0": {"duration": 73.1, "timestamps": [[0, 10.23]], "sentences": ["Men."]},
        "v_broken": {"duration": 9.0, "timestamps": [[5, 4]], "sentences": ["No."]},
    }
    labels = load_labels(folder.labels("val_1.json", data))
    first = "videos/v_uqiMw7tQ1Cc.mp4"
    said = data["v_uqiMw7tQ1Cc"]["sentences"]
    assert labels.clips == [
        folder.clip(first, said[0], split="val", start=0.28, end=55.15),
        folder.clip(first, said[1], split="val", start=13.79, end=54.32),
        folder.clip("videos/bXdq2zI1Ms0.mkv", "Men.", split="val", end=10.23),
    ]
    [problem] = labels.problems
    assert problem.where == "v_broken"
    assert "start < end" in problem.message


def test_vatex(folder):
    folder.files("videos/Ptf_2VRj-V0_000122_000132.mp4", "whole/Ab-c_d.webm")
    data = [
        {"videoID": "Ptf_2VRj-V0_000122_000132", "enCap": ["Men play."], "chCap": ["男人"]},
        {"videoID": "Ab-c_d_000010_000020", "enCap": ["A cat."], "chCap": ["猫"]},
        {"videoID": "5P_z3z4k7ys_000002_000012"},
    ]
    labels = load_labels(folder.labels("vatex_training_v1.0.json", data))
    assert labels.clips == [
        folder.clip("videos/Ptf_2VRj-V0_000122_000132.mp4", "Men play."),
        folder.clip("whole/Ab-c_d.webm", "A cat.", start=10.0, end=20.0),
    ]
    [problem] = labels.problems
    assert problem.where == "entry 3"
    assert "has no caption" in problem.message


def _task(data, *results, **annotation):
    return {
        "id": 1,
        "data": data,
        "annotations": [{"id": 5, "completed_by": 1, "result": list(results), **annotation}],
        "predictions": [],
    }


def _textarea(*text, **value):
    value = {"text": list(text), **value}
    return {"value": value, "from_name": "caption", "to_name": "video", "type": "textarea"}


def test_label_studio(folder):
    folder.files("media/1/0ab1cd2e-my clip.mp4", "clips/b.mp4", "c.mp4")
    rating = {"value": {"rating": 5}, "from_name": "rating", "type": "rating"}
    tasks = [
        _task(
            {"video": "/data/upload/1/0ab1cd2e-my%20clip.mp4"}, rating, _textarea("One.", "Two.")
        ),
        _task({"video": "/data/local-files/?d=clips/b.mp4"}, _textarea("Four.", start=1, end=2.5)),
        _task({"media_url": "https://host/bucket/c.mp4"}, _textarea("Five.")),
        _task({"video": "/data/upload/1/12345678-c.mp4"}, _textarea("Six.")),
        _task({"video": "d.mp4"}, _textarea("Seven."), was_cancelled=True),
        _task({"video": "e.mp4"}, _textarea("Eight.", ranges=[{"start": 3, "end": 9}])),
    ]
    labels = load_labels(folder.labels("project-1-at-2024-test.json", tasks))
    assert labels.clips == [
        folder.clip("media/1/0ab1cd2e-my clip.mp4", "One.", "Two.", split="test"),
        folder.clip("clips/b.mp4", "Four.", split="test", start=1.0, end=2.5),
        folder.clip("c.mp4", "Five.", "Six.", split="test"),
    ]
    assert [(problem.where, problem.message[:20]) for problem in labels.problems] == [
        ("entry 6", "a stretch in frames;"),
        ("entry 5", "d.mp4 has no caption"),
    ]


def test_label_studio_json_min(folder):
    folder.files("c.mp4")
    tasks = [{"video": "/data/upload/1/12345678-c.mp4", "id": 1, "caption": "One.", "annotator": 1}]
    assert read_labels(folder.labels("train.json", tasks)) == [folder.clip("c.mp4", "One.")]


def test_label_studio_json_min_of_several_sentences(folder):
    tasks = [
        {"image": "/data/upload/1/12345678-a.jpg", "id": 1},
        {"image": "b.jpg", "id": 2, "caption": {"text": ["One.", "Two."]}},
        {"image": "c.jpg", "id": 3, "caption": ["Three.", {"text": ["Four."]}]},
    ]
    labels = load_labels(folder.labels("train.json", tasks))
    assert labels.clips == [
        folder.clip("b.jpg", "One.", "Two."),
        folder.clip("c.jpg", "Three.", "Four."),
    ]
    [problem] = labels.problems
    assert (problem.where, problem.message[:14]) == ("entry 1", "has no caption")


def test_label_studio_texts_that_are_no_captions(folder):
    note = _textarea("Ask Jo.") | {"from_name": "notes"}
    tasks = [
        _task({"video": "a.mp4"}, _textarea("One."), note),
        _task({"video": "b.mp4"}, note),
        _task({"video": "c.mp4"}, _textarea("EXIT", x=1, y=2, width=3, height=4)),
    ]
    labels = load_labels(folder.labels("train.json", tasks))
    assert labels.clips == [folder.clip("a.mp4", "One.")]
    assert sorted(problem.message for problem in labels.problems) == [
        "b.mp4 has no caption; left out",
        "said of a part of the picture; a caption is of the whole",
    ]
    notes = [_task({"video": "a.mp4"}, note, _textarea("One.") | {"from_name": "place"})]
    [problem] = load_labels(folder.labels("train.json", notes)).problems
    assert problem.message == "texts of several kinds are all learned as captions: notes, place"


def test_json_of_names_and_captions(folder):
    folder.files("clips/video0.mp4", "clips/b.mp4")
    path = folder.labels("train.json", {"video0": ["One.", "Two."], "b.mp4": "Three."})
    assert read_labels(path) == [
        folder.clip("clips/video0.mp4", "One.", "Two."),
        folder.clip("clips/b.mp4", "Three."),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Some text.\nMore text.", "known format.*JSON Lines, CSV"),
        ("", "known format"),
        ("[1, 2]", "known format"),
        ('{\n "videos": [\n  {"video_id"', r"damaged JSON.*line 3"),
        ("[" * 100_000, "damaged JSON"),
        ('{"videos": [{}], "sentences": []}', "damaged labels.*video_id"),
        ('{"images": 7, "annotations": []}', "damaged labels"),
        ('{"video": "a.mp4"}', "line 1: has no caption"),
    ],
)
def test_no_labels(content, message, folder):
    with pytest.raises(DatasetError, match=message):
        read_labels(folder.labels("labels", content))


def test_missing_labels(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.jsonl.*check the path"):
        read_labels(tmp_path / "none.jsonl")
    with pytest.raises(DatasetError, match="not one row"):
        read_labels(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        '{"video": "a.mp4"}',
        '{"captions": ["One."]}',
        '{"video": "a.mp4", "caption": 7}',
        '{"video": 7, "caption": "One."}',
        '{"video": " ", "caption": "One."}',
        '{"video": "a.mp4", "caption": "One.", "split": 1}',
        '{"video": "a.mp4", "caption": "One.", "start": "soon"}',
        '{"video": "a.mp4", "caption": "One.", "start": 3, "end": 3}',
        '{"video": "a.mp4", "caption": "One.", "start": NaN}',
        '{"video": "a.mp4", "caption": "One.", "end": Infinity}',
        "[1]",
    ],
)
def test_a_bad_row_takes_no_other_down(line, folder):
    good = '{"video": "%s.mp4", "caption": "One."}'
    path = folder.labels("train.jsonl", "\n".join([good % "a", line, good % "b"]))
    labels = load_labels(path)
    assert labels.clips == [folder.clip("a.mp4", "One."), folder.clip("b.mp4", "One.")]
    assert labels.rows == ["line 1", "line 3"]
    assert [problem.where for problem in labels.problems] == ["line 2"]


def test_rows_of_a_table_that_do_not_fit(folder):
    path = folder.labels("train.csv", "caption,path\nOne.,a.mp4\nTwo\nThree.,b.mp4,more\n")
    labels = load_labels(path)
    assert labels.clips == [folder.clip("a.mp4", "One.")]
    assert [(problem.where, problem.message) for problem in labels.problems] == [
        ("line 3", "has 1 cells, expected 2"),
        ("line 4", "has 3 cells, expected 2"),
    ]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("captions_train2014", "train"),
        ("Validate", "val"),
        ("val_2", "val"),
        ("public_test", "test"),
        ("train_val_videodatainfo", None),
        ("contest", None),
    ],
)
def test_known_split(name, split):
    assert known_split(name) == split
