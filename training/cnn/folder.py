"""The folder of a trained CNN: its shape, and the file of its weights."""

import json
from dataclasses import replace
from pathlib import Path

from captioner.config import CnnConfig
from captioner.errors import CaptionerError, DatasetError
from captioner.model_folder import BACKBONE_WEIGHTS, SMALL_MODEL, ModelFolder

CNN_CONFIG = "cnn.json"


def bundled_cnn(folder: Path | None = None, input_size: int | None = None):
    """Shape and weights of a CNN of `captioner distill`, or of the model `small`.

    It may see frames larger than in its own training: there it saw crops, in which things are
    larger than in whole frames (Touvron et al. 2019, "Fixing the train-test resolution
    discrepancy").

    Args:
        folder: the output of `captioner distill`.
        input_size: height and width at which it sees frames, pixels; None: as in its training.

    Returns:
        Its `CnnConfig`, and the file of its weights.

    Raises:
        DatasetError: the folder is no such output.
        CaptionerError: the CNN cannot see frames of this size.
    """
    if folder is None:
        shipped = ModelFolder.open(SMALL_MODEL)
        cnn, weights = shipped.cnn, shipped.path / BACKBONE_WEIGHTS
    else:
        weights = folder / BACKBONE_WEIGHTS
        try:
            cnn = CnnConfig.from_dict(json.loads((folder / CNN_CONFIG).read_text()))
        except (OSError, ValueError, TypeError) as err:
            raise DatasetError(f"{folder}: not the output of captioner distill ({err})") from err
    if input_size is None:
        return cnn, weights
    try:
        return replace(cnn, input_size=input_size), weights
    except ValueError as err:
        raise CaptionerError(f"--input-size: {err}") from err
