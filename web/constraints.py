"""What is asked of a video's sentences: their beginning, words to avoid and mention, a style."""

from dataclasses import replace
from importlib.util import find_spec

from captioner.config import AUTO_STYLE, DecodingOptions, overridden
from captioner.errors import CaptionerError, ModelError
from captioner.model_folder import ModelFolder

from .errors import Refusal


def can_be_asked() -> bool:
    """Whether this server can search so: the programs that captions come from else cannot."""
    return find_spec("tensorflow") is not None


def styles(model: str) -> tuple[str, ...]:
    """The styles that can be asked of a model."""
    try:
        known = ModelFolder.open(model).model.styles
    except ModelError:  # of a broken one its jobs tell what is wrong
        return ()
    return (AUTO_STYLE, *known) if known else ()


def decoding_of(folder: ModelFolder, num_captions: int, options: dict) -> DecodingOptions:
    """How to search for several sentences of a video.

    Args:
        folder: the model.
        num_captions: sentences.
        options: fields of `DecodingOptions` that are asked for.

    Raises:
        CaptionerError: they contradict one another.
    """
    beam_size = max(folder.decoding.beam_size, num_captions, len(options.get("mention", ())) + 1)
    several = replace(folder.decoding, beam_size=beam_size, num_captions=num_captions)
    return overridden(several, options)


def check(model: str, num_captions: int, options: dict):
    """Makes sure that a model can caption so.

    Args:
        model: its path.
        num_captions: sentences of a video.
        options: what is asked for; nothing always can be.

    Raises:
        Refusal: 409: this server cannot; 422: the model cannot.
        ModelError: the model's folder is not whole.
    """
    if not options:
        return
    if not can_be_asked():
        message = "This server runs without TensorFlow, which such sentences need."
        raise Refusal(409, "no_tensorflow", message)
    folder = ModelFolder.open(model)
    style = options.get("style", AUTO_STYLE)
    if style not in (known := (AUTO_STYLE, *folder.model.styles)):
        message = f"The model {folder.name} has no style {style}; its styles: {', '.join(known)}."
        raise Refusal(422, "unknown_style", message)
    try:
        folder.vocabulary.constraints(decoding_of(folder, num_captions, options))
    except (ValueError, CaptionerError) as err:
        reason = str(err).partition(";")[0]
        raise Refusal(
            422, "bad_words", f"The model {folder.name} cannot do this: {reason}."
        ) from err
