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

from ..cnn import BUNDLED, PRETRAINED
from ..config import ENGINES, DecodingOptions
from ..errors import ModelError
from ..model_folder import ModelFolder
from .conversion import convert
from .lite_engine import CAPTIONER_PROGRAM, function_for, functions, made_of

PROGRAMS = "programs"
REFUSAL = "refusal.txt"  # in the cache, why a model cannot be converted
REFUSED = 3  # exit status that says so
PARTIAL, ABANDONED = ".partial-", 3600  # prefix of unfinished folders; seconds, by then nobody's
CONVERTING = 600  # seconds, where it takes up to 60 on two cores
PREPARING = 300  # seconds in which a process that prepares will have done so, or died
KEPT_IN_CACHE = 8  # other folders of programs, each of some 30 MB
INT8 = "int8"
IN_INTEGERS = (PRETRAINED, BUNDLED)  # backbones, unless floats are asked for

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
