"""Model folder -> LiteRT programs, which start in a blink and need no TensorFlow to run.

Programs live in folders named after what they were made of, `lite_engine.made_of`: beside the
weights in `MODEL/programs/`, where `captioner export` and `captioner train` write them, or in the
user's cache, where the first caption by a model without any writes them. So a program of other
weights, options or code is never found, let alone run. A folder is written under another name
and then renamed: whoever looks sees all of it or nothing, however many write at once.

`python -m captioner.engines.programs MODEL DIR [int8]` writes the programs into a new folder DIR,
without DIR into the cache.
"""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..cnn import BUNDLED, PRETRAINED
from ..config import ENGINES, DecodingOptions
from ..errors import ModelError
from ..model_folder import ModelFolder
from ..vocabulary import start_id
from .drawing import draw_frames
from .keras_engine import search_with
from .lite_engine import (
    BACKBONE_PROGRAM,
    CAPTIONER_PROGRAM,
    STEM_PROGRAM,
    Program,
    function_for,
    functions,
    lite_backbone,
    made_of,
)
from .quantization import round_weights, to_integers

PROGRAMS = "programs"
REFUSAL = "refusal.txt"  # in the cache, why a model cannot be converted
REFUSED = 3  # exit status that says so
PARTIAL, ABANDONED = ".partial-", 3600  # prefix of unfinished folders; seconds, by then nobody's
CONVERTING = 600  # seconds, where it takes up to 60 on two cores
PREPARING = 300  # seconds in which a process that prepares will have done so, or died
KEPT_IN_CACHE = 8  # other folders of programs, each of some 30 MB
INT8 = "int8"
IN_INTEGERS = (PRETRAINED, BUNDLED)  # backbones, unless floats are asked for
SCORE_TOLERANCE = 1e-4  # sentences whose scores differ by less are as good as each other
CALIBRATION_FRAMES = 32
FEATURE_TOLERANCE = {False: 1e-3, True: 2e-1}  # relative, by whether weights are int8

_log = logging.getLogger(__name__)


class ConversionError(ModelError):
    """A model cannot be converted, however often one tries."""


def programs_for(
    folder: ModelFolder, decoding: DecodingOptions, engine: str = "auto", hurry: bool = False
) -> Path | None:
    """Chooses what runs a model.

    Args:
        folder: the model.
        decoding: how it will search.
        engine: `lite`: LiteRT programs, written into the user's cache where there are none yet;
            `keras`; `auto`: programs where there can be some and no GPU waits.
        hurry: whether `auto` has Keras answer where programs are still to be written, which a
            process of its own does meanwhile.

    Returns:
        The folder of the programs; None for Keras.

    Raises:
        ModelError: `lite`, and there can be no programs.
    """
    if engine not in ENGINES:
        raise ValueError(f"expected engine to be one of {ENGINES}, received: {engine=}")
    if engine == "keras" or (engine == "auto" and _has_gpu()):
        return None
    try:
        return _find_or_write(folder, decoding, engine == "lite", hurry and engine == "auto")
    except ModelError as err:
        if engine == "lite":
            raise
        _log.info("%s", err)
        return None


def _find_or_write(folder, decoding, patient, hurry):
    _expect_convertible(folder)
    if function_for(decoding, folder.decoding) is None:
        known = " or ".join(str(known.beam_size) for known in functions(folder.decoding).values())
        raise ModelError(
            f"{folder.path}: its programs search with a beam_size of {known} and all else as its "
            "config.json says; ask for that, or for the engine keras"
        )
    name = made_of(folder)
    beside, cached = folder.path / PROGRAMS / name, _cache() / name
    for place in (_as_int8(beside), beside, cached):
        if (place / CAPTIONER_PROGRAM).is_file():
            return place
    if (cached / REFUSAL).is_file():
        if not patient:
            raise ConversionError((cached / REFUSAL).read_text(encoding="utf-8"))
        shutil.rmtree(cached, ignore_errors=True)
    try:
        _expect_writable(cached.parent)
        if hurry:
            _prepare_beside(folder, cached)
            return None
        _log.warning(
            "preparing the model %s to start at once: up to a minute, this time only", folder.name
        )
        prepare(folder)
    except ModelError as err:
        if not patient:
            _log.warning("%s; running on TensorFlow, which takes longer to start", err)
        raise
    return cached


def prepare(folder: ModelFolder):
    """Writes the programs of a model into the user's cache, or there why that cannot be.

    Raises:
        ModelError: they cannot be written, or the model cannot be converted.
    """
    cached = _cache() / made_of(folder)
    try:
        _write(folder, cached, folder.backbone in IN_INTEGERS)
        _remove_others(cached, KEPT_IN_CACHE)
    except ConversionError as err:
        cached.mkdir(parents=True, exist_ok=True)
        (cached / REFUSAL).write_text(str(err), encoding="utf-8")
        raise


def _prepare_beside(folder, cached):
    """Starts a process that prepares, unless one is at it, and goes on at once."""
    doing = "running on TensorFlow, which takes longer to start"
    started = [path.stat().st_mtime for path in cached.parent.glob(f"{PARTIAL}{cached.name}-*")]
    if started and time.time() - max(started) < PREPARING:
        _log.warning("the model %s is still being prepared; %s", folder.name, doing)
        return
    _log.warning(
        "preparing the model %s to start at once, beside this and for up to a minute; %s",
        folder.name,
        doing,
    )
    command = [sys.executable, "-P", "-m", "captioner.engines.programs", folder.path.absolute()]
    subprocess.Popen(
        command,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # what cannot be done, the next command will say
        start_new_session=True,  # or Ctrl-C would end it too
    )


def _expect_writable(folder: Path):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as err:
        raise ModelError(f"{folder}: cannot be written: {err.strerror}") from err


def write_programs(
    folder: ModelFolder, target: Path | None = None, int8: bool | None = None
) -> Path:
    """Writes the programs of a model, in a process of its own that sees no GPU.

    Args:
        folder: the model.
        target: a new folder for them; by default beside the weights, where the model's programs
            are looked for, and where any others are then deleted.
        int8: lets the CNN compute with 8-bit integers (those of `IN_INTEGERS` do so by default):
            a quarter of the size, faster, and some captions come out otherwise. Most of
            EfficientNet-Lite2 has integers throughout, in ranges that are calibrated; other
            networks have weights of 8 bits, and scale what they multiply anew for each frame
            ("dynamic range"). How weights are rounded: `captioner.engines.quantization`.

    Returns:
        The folder of the programs.

    Raises:
        ModelError: it cannot be written, or the model cannot be converted.
    """
    _expect_convertible(folder)
    if int8 is None:
        int8 = folder.backbone in IN_INTEGERS
    if target is not None:
        if target.exists():
            raise ModelError(f"{target}: there is something already; name a new folder")
        return _write(folder, target, int8)
    target = folder.path / PROGRAMS / made_of(folder)
    target = _as_int8(target) if int8 else target
    if not target.is_dir():
        _write(folder, target, int8)
    _remove_others(target, 0)
    return target


def _as_int8(programs):
    return programs.with_name(f"{programs.name}-{INT8}")


def _expect_convertible(folder):
    if folder.backbone.startswith("hub:"):
        raise ConversionError(
            f"{folder.path}: its backbone {folder.backbone} lies elsewhere and may change, which "
            "a program would not; use it on Keras"
        )


def _write(folder, target, int8):
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f"{PARTIAL}{target.name}-", dir=target.parent
        ) as partial:
            made, facts = Path(partial) / "programs", made_of(folder)
            _run_converter(folder, made, int8)
            if made_of(folder) != facts:
                raise ModelError(f"{folder.path}: changed while it was converted; try again")
            try:
                os.rename(made, target)
            except OSError:  # another process was faster
                if not (target / CAPTIONER_PROGRAM).is_file():
                    raise
    except OSError as err:
        raise ModelError(f"{target}: cannot be written: {err.strerror}") from err
    return target


def _remove_others(target, kept):
    def modified(path):
        try:
            return path.stat().st_mtime
        except FileNotFoundError:  # another process has just removed or renamed it
            return time.time()

    others = [path for path in target.parent.glob("[!.]*") if path != target]
    others = sorted(others, key=modified, reverse=True)[kept:]
    unfinished = target.parent.glob(f"{PARTIAL}*")  # of processes that were killed
    others += [path for path in unfinished if time.time() - modified(path) > ABANDONED]
    for path in others:
        shutil.rmtree(path, ignore_errors=True)


def _run_converter(folder, target, int8):
    """Runs `convert` on the very code that this process runs."""
    command = [sys.executable, "-P", "-m", "captioner.engines.programs", folder.path, target]
    command += [INT8] * int8
    try:
        done = subprocess.run(
            command,
            env=_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=CONVERTING,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"{folder.path}: was not converted to LiteRT programs in {CONVERTING} s; when the "
            "machine has less to do, try captioner export"
        ) from None
    if done.returncode:
        kind = ConversionError if done.returncode == REFUSED else ModelError
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise kind(f"{folder.path}: cannot be converted to LiteRT programs: {reason}")


def _environment():
    paths = [path or os.getcwd() for path in sys.path]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def convert(folder: ModelFolder, target: Path, int8: bool = False):
    """Converts a model to LiteRT programs and checks them against Keras.

    Args:
        folder: the model.
        target: a folder that does not exist yet.
        int8: whether the CNN computes with 8-bit integers.

    Raises:
        ModelError: the model cannot be loaded, or its programs say something else.
    """
    import tensorflow as tf

    backbone, model = folder.load_backbone(), folder.load_model()
    num_frames = folder.sampling.num_frames

    def see(frames):
        return {"features": backbone.traceable(tf.cast(frames, tf.float32))}

    frames = tf.TensorSpec((None, *backbone.input_size, 3), tf.uint8, "frames")
    features = tf.TensorSpec((1, num_frames, *backbone.feature_shape), tf.float32, "features")
    sequence_length = tf.TensorSpec((1,), tf.int32, "sequence_length")
    start_ids = tf.TensorSpec((1,), tf.int32, "start_ids")
    looking = {"features": tf.function(see).get_concrete_function(frames)}
    searching = {
        name: tf.function(
            _by_name(search_with(model, options, folder.vocabulary))
        ).get_concrete_function(features, sequence_length, start_ids)
        for name, options in functions(folder.decoding).items()
    }
    frames = draw_frames(num_frames, backbone.input_size)
    features = looking["features"](tf.constant(frames))["features"].numpy()
    target.mkdir()
    programs = {CAPTIONER_PROGRAM: _to_program(searching)}
    calibration = draw_frames(CALIBRATION_FRAMES, backbone.input_size) if int8 else ()
    if int8 and folder.backbone == PRETRAINED:
        stem, looks = to_integers(backbone.traceable, calibration)
        programs |= {STEM_PROGRAM: stem, BACKBONE_PROGRAM: looks}
    else:
        if int8 and folder.backbone == BUNDLED:
            round_weights(backbone.traceable, backbone.traceable.layers, calibration)
        programs[BACKBONE_PROGRAM] = _to_program(looking, int8)
    for name, program in programs.items():
        with open(target / name, "wb") as file:
            file.write(program)
            os.fsync(file.fileno())
    _check(folder, target, features, searching, frames, FEATURE_TOLERANCE[int8])


def _by_name(search):
    return lambda *tensors: search(*tensors)._asdict()


def _to_program(graphs: dict, int8: bool = False) -> bytes:
    """One LiteRT program of TensorFlow graphs, which share their weights in it."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = [variable for graph in graphs.values() for variable in graph.graph.variables]
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(module, saved, signatures=graphs)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        converter.optimizations = [tf.lite.Optimize.DEFAULT] * int8  # weights; inputs as they come
        return converter.convert()


def _check(folder, target, features, searching, frames, tolerance):
    """Runs graphs and programs on all frames, and on clips of one, two ... of them."""
    import tensorflow as tf

    backbone, captioner = lite_backbone(folder, target), Program(target / CAPTIONER_PROGRAM)
    found = backbone(frames)
    if not np.linalg.norm(found - features) <= tolerance * np.linalg.norm(features):
        raise ModelError(f"{BACKBONE_PROGRAM}: gives other features than Keras does")
    for length in range(1, len(frames) + 1):
        clip = np.zeros_like(features)
        clip[:length] = np.roll(features, length, axis=0)[:length]
        inputs = {"features": clip[None], "sequence_length": np.array([length], np.int32)}
        first = start_id(folder.model.styles, folder.decoding.style, length)
        inputs["start_ids"] = np.array([first], np.int32)
        for name, graph in searching.items():
            expected = graph(*map(tf.constant, inputs.values()))
            found = captioner(name, **inputs)
            same = np.all(found["token_ids"] == expected["token_ids"], axis=2)
            as_good = np.abs(found["scores"] - expected["scores"]) < SCORE_TOLERANCE
            if not np.all(same | as_good):
                raise ModelError(f"{CAPTIONER_PROGRAM}: gives other sentences than Keras does")


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("captioner") / PROGRAMS


def _has_gpu() -> bool:
    """Whether there is an NVIDIA GPU, and the libraries of the extra `gpu` to use it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    devices = any(Path("/dev").glob("nvidia[0-9]*"))
    return devices and not hidden and find_spec("nvidia") is not None


if __name__ == "__main__":
    try:
        if len(sys.argv) == 2:
            prepare(ModelFolder.open(sys.argv[1]))
        else:
            convert(ModelFolder.open(sys.argv[1]), Path(sys.argv[2]), INT8 in sys.argv[3:])
    except (OSError, MemoryError):  # another time it may succeed
        raise
    except Exception as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
        sys.exit(REFUSED)
