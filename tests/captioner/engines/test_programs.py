"""Programs are written once, whole, and never run for another model."""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captioner import Captioner
from captioner.cli.main import main
from captioner.engines import conversion, lite_engine, programs
from captioner.engines.keras_engine import KerasEngine
from captioner.engines.lite_engine import (
    BACKBONE_PROGRAM,
    CAPTIONER_PROGRAM,
    LiteEngine,
)
from captioner.errors import ModelError
from captioner.model_folder import CONFIG, ModelFolder
from tests.conftest import draw_shape_clip


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the tiny model: what it says is known, but it may be changed."""
    shutil.copytree(tiny_model, tmp_path / "model")
    return ModelFolder.open(tmp_path / "model")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache without any programs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def converter(monkeypatch):
    """Stands in for the converter, which takes seconds; counts its runs."""
    runs = []

    def write(folder, target, int8):
        runs.append(folder.path)
        target.mkdir()
        for name in (BACKBONE_PROGRAM, CAPTIONER_PROGRAM):
            (target / name).write_text(str(len(runs)))

    monkeypatch.setattr(programs, "_run_converter", write)
    return runs


def _change_weights(folder):
    model = folder.load_model()
    model.output_bias.assign(model.output_bias + 1.0)
    folder.save(model)


def _change_options(folder, max_length):
    config = json.loads((folder.path / CONFIG).read_text())
    config["decoding"]["max_length"] = max_length
    (folder.path / CONFIG).write_text(json.dumps(config))
    return ModelFolder.open(folder.path)


def test_export_beside_the_weights(folder, own_cache, tmp_path, capsys):
    assert main(["export", str(folder.path), "--no-int8"]) == 0
    made = programs_beside(folder)
    assert capsys.readouterr().out == f"{made}\n"
    assert programs.programs_for(folder, folder.decoding) == made
    assert not (own_cache / "captioner").exists()
    clip = draw_shape_clip(tmp_path / "a.avi", "red", "circle")
    lite, keras = (Captioner.load(folder.path, engine=engine) for engine in ("auto", "keras"))
    assert isinstance(lite.engine, LiteEngine)
    assert isinstance(keras.engine, KerasEngine)
    ours, theirs = lite.caption(clip), keras.caption(clip)
    assert ours.text == theirs.text
    assert ours.score == pytest.approx(theirs.score, abs=1e-4)
    np.testing.assert_allclose(
        ours.candidates[0].attention_weights, theirs.candidates[0].attention_weights, atol=1e-4
    )


def programs_beside(folder):
    [made] = (folder.path / "programs").iterdir()
    return made


def test_command_without_tensorflow(tiny_model, tmp_path, capsys):
    clip = str(draw_shape_clip(tmp_path / "a.avi", "red", "circle"))
    arguments = ["caption", "--model", str(tiny_model), clip]
    assert main([*arguments, "--engine", "lite"]) == 0  # programs are there from now on
    expected = capsys.readouterr().out
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; "
        f"from captioner.cli.main import main; sys.exit(main({arguments}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout == expected


def test_first_use_writes_into_the_cache_and_says_so(folder, own_cache, converter, caplog):
    made = programs.programs_for(folder, folder.decoding)
    assert made.is_relative_to(own_cache)
    assert "preparing the model model to start at once" in caplog.text
    assert programs.programs_for(folder, folder.decoding) == made
    assert len(converter) == 1
    assert not (folder.path / "programs").exists()


def test_keras_answers_while_another_process_prepares(folder, own_cache, monkeypatch, caplog):
    started = []
    monkeypatch.setattr(programs, "_run_converter", _refuse)  # not in this process
    monkeypatch.setattr(programs.subprocess, "Popen", lambda command, **_: started.append(command))
    assert programs.programs_for(folder, folder.decoding, hurry=True) is None
    assert "beside this" in caplog.text
    assert "running on TensorFlow" in caplog.text
    assert [command[-1] for command in started] == [folder.path]
    name = lite_engine.made_of(folder)
    under_way = own_cache / "captioner" / "programs" / f"{programs.PARTIAL}{name}-1"
    under_way.mkdir()
    assert programs.programs_for(folder, folder.decoding, hurry=True) is None
    assert "still being prepared" in caplog.text
    assert len(started) == 1
    os.utime(under_way, (time.time() - 2 * programs.PREPARING,) * 2)  # its process must have died
    assert programs.programs_for(folder, folder.decoding, hurry=True) is None
    assert len(started) == 2
    with pytest.raises(ModelError, match="no such operator"):
        programs.programs_for(folder, folder.decoding, "lite", hurry=True)


def test_the_process_beside_writes_what_is_found_afterwards(folder, own_cache):
    subprocess.run(
        [sys.executable, "-m", "captioner.engines.programs", folder.path],
        check=True,
        capture_output=True,
    )
    [made] = own_cache.rglob(CAPTIONER_PROGRAM)
    assert programs.programs_for(folder, folder.decoding, hurry=True) == made.parent


@pytest.mark.parametrize("change", ["weights", "options", "code"])
def test_stale_programs_are_never_found(change, folder, own_cache, converter, monkeypatch):
    made = programs.write_programs(folder, int8=False)
    assert programs.programs_for(folder, folder.decoding) == made
    if change == "weights":
        _change_weights(folder)
    elif change == "options":
        _change_options(folder, max_length=5)
    else:
        monkeypatch.setattr("captioner.engines.lite_engine._sources", lambda: [Path(__file__)])
    folder = ModelFolder.open(folder.path)
    fresh = programs.programs_for(folder, folder.decoding)
    assert fresh.is_relative_to(own_cache)
    beside = programs.write_programs(folder, int8=False)
    assert beside.name == fresh.name != made.name
    assert not made.exists()
    assert programs.programs_for(folder, folder.decoding) == beside


def test_programs_are_of_all_code_that_makes_them():
    package = Path(programs.__file__).parents[1]
    sources = {str(path.relative_to(package)) for path in lite_engine._sources()}
    assert sources >= {"model.py", "decoding.py", "cnn/bundled.py", "cnn/efficientnet.py"}
    assert sources >= {"layers/sequence.py", "engines/conversion.py"}
    assert "video/frames.py" not in sources


def test_only_some_stay_in_the_cache(folder, own_cache, converter):
    for words in range(3, 3 + programs.KEPT_IN_CACHE + 3):
        changed = _change_options(folder, max_length=words)
        made = programs.programs_for(changed, changed.decoding)
        os.utime(made, (words, words))
    kept = list(own_cache.rglob(CAPTIONER_PROGRAM))
    assert len(kept) == programs.KEPT_IN_CACHE + 1
    assert made / CAPTIONER_PROGRAM in kept


def test_what_killed_processes_left_is_removed(folder, own_cache, converter):
    place = folder.path / "programs"
    for name, age in ((".partial-old", 9999), (".partial-new", 9)):
        (place / name).mkdir(parents=True)
        os.utime(place / name, (time.time() - age,) * 2)
    made = programs.write_programs(folder)
    assert set(place.iterdir()) == {made, place / ".partial-new"}


def test_choice_of_engine(folder, own_cache, converter, monkeypatch):
    def choose(engine, **changes):
        return programs.programs_for(folder, replace(folder.decoding, **changes), engine)

    assert choose("keras") is None
    assert choose("auto", beam_size=1) == choose("lite") is not None
    assert choose("auto", num_captions=2) == choose("lite")
    assert choose("auto", max_length=7) is None
    with pytest.raises(ModelError, match="a beam_size of 1 or 2 and all else as"):
        choose("lite", max_length=7)
    with pytest.raises(ValueError, match="expected engine to be one of"):
        choose("tflite")
    monkeypatch.setattr(programs, "_has_gpu", lambda: True)
    assert choose("auto") is None
    assert choose("lite") is not None


def test_no_place_beside_the_weights(folder, converter):
    (folder.path / "programs").write_text("in the way")
    with pytest.raises(ModelError, match="cannot be written"):
        programs.write_programs(folder)


def test_no_place_in_the_cache(folder, own_cache, converter, caplog):
    own_cache.write_text("in the way")
    assert programs.programs_for(folder, folder.decoding) is None
    assert "cannot be written" in caplog.text
    assert "running on TensorFlow" in caplog.text
    with pytest.raises(ModelError, match="cannot be written"):
        programs.programs_for(folder, folder.decoding, "lite")


def test_a_model_that_cannot_be_converted_is_tried_once(folder, own_cache, monkeypatch, caplog):
    runs = []

    def refuse(folder, target, int8):
        runs.append(target)
        _refuse()

    monkeypatch.setattr(programs, "_run_converter", refuse)
    for _ in range(3):
        assert programs.programs_for(folder, folder.decoding) is None
    assert len(runs) == 1
    assert caplog.text.count("no such operator") == 1
    with pytest.raises(ModelError, match="no such operator"):
        programs.programs_for(folder, folder.decoding, "lite")
    assert len(runs) == 2


def test_a_refusal_is_forgotten_when_it_is_over(folder, own_cache, converter, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(programs, "_run_converter", _refuse)
        assert programs.programs_for(folder, folder.decoding) is None
    assert programs.programs_for(folder, folder.decoding) is None
    assert programs.programs_for(folder, folder.decoding, "lite") is not None
    assert programs.programs_for(folder, folder.decoding) is not None


def _refuse(*_):
    raise programs.ConversionError("no such operator")


def test_the_converter_says_why(folder, own_cache):
    (folder.path / CONFIG).write_text("{}")
    with pytest.raises(programs.ConversionError, match="not a whole model folder"):
        programs.write_programs(folder)
    assert list((folder.path / "programs").iterdir()) == []


def test_a_model_that_changes_meanwhile(folder, own_cache, monkeypatch):
    def write(folder, target, int8):
        target.mkdir()
        _change_options(folder, max_length=5)

    monkeypatch.setattr(programs, "_run_converter", write)
    with pytest.raises(ModelError, match="changed while it was converted"):
        programs.write_programs(folder)
    assert list((folder.path / "programs").iterdir()) == []


def test_several_at_once_leave_one_whole(folder, own_cache, converter):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: programs.write_programs(folder), range(16)))
    assert found == {programs_beside(folder)}
    assert sorted(path.name for path in programs_beside(folder).iterdir()) == [
        BACKBONE_PROGRAM,
        CAPTIONER_PROGRAM,
    ]


def test_programs_are_held_against_keras(folder, tmp_path, monkeypatch):
    call = conversion.Program.__call__

    def mistaken(program, function, **inputs):
        return {
            name: x + (name in ("scores", "token_ids"))
            for name, x in call(program, function, **inputs).items()
        }

    monkeypatch.setattr(conversion.Program, "__call__", mistaken)
    with pytest.raises(ModelError, match="gives other sentences than Keras"):
        conversion.convert(folder, tmp_path / "programs")


def test_backbone_from_elsewhere(folder, own_cache, converter):
    folder = replace(folder, backbone="hub:https://example.com/module", cnn=None)
    with pytest.raises(ModelError, match=r"hub:https://example\.com/module lies elsewhere"):
        programs.write_programs(folder)
    assert programs.programs_for(folder, folder.decoding) is None
    assert converter == []


def test_a_conversion_that_does_not_end(folder, own_cache, monkeypatch):
    monkeypatch.setattr(programs, "CONVERTING", 0.1)
    with pytest.raises(ModelError, match=r"not converted to LiteRT programs in 0\.1 s"):
        programs.write_programs(folder)
    assert [*(folder.path / "programs").iterdir()] == []
    assert programs.programs_for(folder, folder.decoding) is None
    assert not [*own_cache.rglob(programs.REFUSAL)]  # another time it may succeed


def test_into_a_folder_of_choice(folder, own_cache, converter, tmp_path):
    assert main(["export", str(folder.path), str(tmp_path / "out" / "here")]) == 0
    assert (tmp_path / "out" / "here" / CAPTIONER_PROGRAM).is_file()
    assert main(["export", str(folder.path), str(tmp_path / "out")]) == 2  # no folder is replaced
    assert not (folder.path / "programs").exists()
