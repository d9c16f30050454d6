"""The verbs `distill` and `probe` of the `captioner` command: a CNN, and what it sees."""

import json
from pathlib import Path

from captioner.config import CnnConfig
from captioner.errors import DatasetError
from captioner.model_folder import DEFAULT_MODEL, ModelFolder
from captioner.terminal import ALL_GOOD, muted_stderr, positive
from captioner.video import find_videos

from ..data.manifest import read_labels
from .arguments import add_fitting


def add_distill(commands):
    """Adds `captioner distill`."""
    parser = commands.add_parser(
        "distill",
        help="train a CNN by distillation, for train --cnn",
        description="Trains the backbone `bundled` from scratch by knowledge distillation: it "
        "learns to give the features of a larger CNN. The same command goes on with a training "
        "that was stopped.",
    )
    parser.add_argument(
        "pictures", nargs="+", type=Path, help="labels (their split train) or a folder of pictures"
    )
    parser.add_argument(
        "--teacher", type=Path, required=True, help="the larger CNN: a .tflite image classifier"
    )
    parser.add_argument(
        "--classifier",
        type=Path,
        metavar="FILE",
        help="a .tflite image classifier whose class probabilities are learned too",
    )
    parser.add_argument(
        "--words", action="store_true", help="also learn which words are in a picture's captions"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of the CNN to write"
    )
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="folder for views of the pictures and the teachers' outputs, which further runs may "
        "share; default: in --output",
    )
    parser.add_argument("--base", type=Path, metavar="DIR", help="CNN of another run to fine-tune")
    parser.add_argument(
        "--views", type=positive(int), default=4, help="crops of each picture; default: %(default)s"
    )
    add_fitting(parser, epochs=8, learning_rate=2e-3)
    parser.add_argument(
        "--batch-size",
        type=positive(int),
        default=128,
        metavar="N",
        help="pictures in a batch; default: %(default)s",
    )
    parser.set_defaults(goes_on=True, run=_distill)


def _distill(args) -> int:
    with muted_stderr():
        import keras

        from ..cnn.distill import Views, train
    keras.config.set_dtype_policy(args.precision)
    keras.utils.set_random_seed(args.seed)
    captions = {}
    for path, said in (one for source in args.pictures for one in _pictures_of(source)):
        captions[path] = (*captions.get(path, ()), *said)
    args.output.mkdir(parents=True, exist_ok=True)
    config = CnnConfig()
    views = Views(args.work or args.output, config, args.batch_size, args.seed)
    if args.words:
        views.add_words(list(captions.values()))
        if not views.words.size:
            raise DatasetError(
                f"{args.pictures[0]}: has no captions with words that some pictures have and "
                "others have not; leave out --words"
            )
    views.make(list(captions), args.teacher, args.views)
    views.open()
    if args.classifier:
        views.add_soft_labels(args.classifier)
    train(views, config, args.output, args.epochs, args.learning_rate, args.base)
    return ALL_GOOD


def _pictures_of(source: Path):
    """Pictures, each with its captions."""
    if source.is_dir():
        return [(path, ()) for path in find_videos(source, recursive=True)]
    clips = read_labels(source, split="train")
    return [(clip.files[len(clip.files) // 2], clip.captions) for clip in clips]


def add_probe(commands):
    """Adds `captioner probe`."""
    parser = commands.add_parser(
        "probe",
        help="measure by a linear probe how much features tell",
        description="Trains a linear probe (ridge regression) to predict, from the features of "
        "single frames, which words are in their captions, and prints the mean average precision "
        "over words.",
    )
    parser.add_argument("labels", type=Path, help="labels of any format, or a folder of clips")
    parser.add_argument("--split", default="val", help="which clips; default: %(default)s")
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME_OR_DIR",
        help="whose CNN: a model that ships, or a model folder; default: %(default)s",
    )
    parser.add_argument(
        "--teacher", type=Path, help="a .tflite image classifier instead of a model's CNN"
    )
    parser.add_argument(
        "--input-size",
        type=positive(int),
        default=224,
        help="height and width of the teacher's input, pixels; default: %(default)s",
    )
    parser.set_defaults(run=_probe)


def _probe(args) -> int:
    from ..cnn.probe import features_of, word_precision

    with muted_stderr():
        if args.teacher:
            from ..cnn.teacher import teacher_backbone

            backbone = teacher_backbone(args.teacher, args.input_size)
        else:
            backbone = ModelFolder.open(args.model).load_backbone()
    clips, features = features_of(backbone, read_labels(args.labels, args.split))
    result = word_precision(features, [clip.captions for clip in clips])
    print(json.dumps({"num_clips": len(clips), **result}, indent=2))
    return ALL_GOOD
