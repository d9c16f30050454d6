"""The verb `train` of the `captioner` command."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from captioner.config import CnnConfig, DecodingOptions, ModelConfig, SamplingOptions
from captioner.errors import CaptionerError, DatasetError
from captioner.model_folder import (
    BACKBONE_WEIGHTS,
    DEFAULT_MODEL,
    ModelFolder,
)
from captioner.terminal import ALL_GOOD, count, muted_stderr, positive, share
from captioner.vocabulary import Vocabulary

from ..data.manifest import load_labels, read_labels, warn
from ..work import only_told, writing
from .distill import add_fitting
from .moments import add_label_training, train_labels

EPOCHS, FEWEST_STEPS = 10, 300  # of a training that is not told how long
LABEL_EPOCHS = 40
SAMPLES, SELF_CRITICAL_RATE = 5, 0.05  # of the learning rate before it
DATA_SETTINGS = (
    "base backbone cnn input_size replay replay_share freeze_encoder views window min_count "
    "precision"
).split()
PATIENCE = {"caption": 5, "label": 10}
MOTION_DIM = 64  # of models that do not have one of their own


def add_train(commands):
    """Adds `captioner train`."""
    parser = commands.add_parser(
        "train",
        help="train a model on labelled clips",
        description="Trains a model on labelled clips; the same command goes on with a training "
        "that was stopped.",
    )
    parser.add_argument(
        "--task",
        choices=("caption", "label"),
        default="caption",
        help="say what happens in a clip, or label each moment of it (default: %(default)s)",
    )
    parser.add_argument(
        "labels", nargs="+", type=Path, help="labels of any format, or a folder of clips"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="model folder")
    parser.add_argument(
        "--base",
        metavar="NAME_OR_DIR",
        help="the model to go on from, or none (default: the default model, unless --backbone, "
        "--cnn or --input-size is given)",
    )
    parser.add_argument(
        "--backbone", help="what looks at frames, without a base: bundled, hub:HANDLE or keras:NAME"
    )
    parser.add_argument(
        "--cnn",
        type=Path,
        metavar="DIR",
        help="a CNN of captioner distill instead of the default model's, without a base",
    )
    parser.add_argument(
        "--input-size",
        type=positive(int),
        metavar="PIXELS",
        help="height and width at which the bundled CNN sees frames, without a base; default: as "
        "in its own training",
    )
    parser.add_argument(
        "--freeze-encoder", action="store_true", help="learn words only, not how to look"
    )
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="LABELS",
        help="labels whose clips are mixed in, with what the base says of them, so that it "
        "forgets less",
    )
    parser.add_argument(
        "--replay-share",
        type=share,
        default=0.3,
        metavar="SHARE",
        help="of what is learned from that is replayed; default: %(default)s",
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="features and state are kept here")
    parser.add_argument(
        "--min-count", type=positive(int), default=1, help="rarer words are not learned"
    )
    parser.add_argument(
        "--views",
        type=count,
        default=0,
        help="further views of each clip to learn from",
    )
    parser.add_argument(
        "--frames",
        type=positive(int),
        metavar="N",
        help="looked at in a clip; default: as many as by the base, without one "
        f"{SamplingOptions().num_frames}",
    )
    parser.add_argument(
        "--window",
        type=positive(int),
        default=64,
        metavar="N",
        help="frames of a clip, or moments of a video, that a gradient flows back through; of "
        "longer ones the state is carried from window to window; default: %(default)s",
    )
    parser.add_argument(
        "--scheduled-sampling",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="of the words read that are the model's own in the end",
    )
    parser.add_argument(
        "--self-critical",
        type=count,
        default=0,
        metavar="N",
        help="passes at the end in which it learns from the CIDEr of its own sentences",
    )
    parser.add_argument(
        "--patience",
        type=count,
        metavar="N",
        help="end after N measurements on the split val without a better one; default: "
        f"{PATIENCE['caption']}, with --task label {PATIENCE['label']}",
    )
    add_fitting(
        parser,
        epochs=None,
        batch_size=64,
        learning_rate=1e-3,
        epochs_default=f"{EPOCHS}, or as many as make {FEWEST_STEPS} steps; "
        f"with --task label {LABEL_EPOCHS}",
    )
    parser.add_argument(
        "--no-repeat-ngram-size",
        type=count,
        metavar="N",
        help="so many words in a row are never said twice in a sentence, 0: off; default: as by "
        "the base, or more where the labels repeat so many, without one off",
    )
    parser.add_argument(
        "--length-penalty",
        type=positive(float),
        metavar="ALPHA",
        help="of the search, above 1 for longer sentences; default: as by the base, without one "
        f"{DecodingOptions().length_penalty}",
    )
    parser.add_argument("--half", action="store_true", help="save weights with fewer digits, small")
    add_label_training(parser)
    parser.set_defaults(run=_train)


def _train(args) -> int:
    args.patience = PATIENCE[args.task] if args.patience is None else args.patience
    if args.task == "label":
        if args.base is not None:
            raise CaptionerError("--base is a model that captions: leave it out with --task label")
        args.epochs = args.epochs or LABEL_EPOCHS
        args.backbone = args.backbone or "bundled"
        return train_labels(args, *_bundled_cnn(args))
    with muted_stderr():
        import keras

        from captioner.engines.programs import write_programs
        from captioner.model import CaptionModel

        from ..data.records import read_records, write_records
        from ..devices import strategy
        from ..report import report_captions, then_rewarded
        from ..trainer import TrainingOptions, train
        from ..transfer import rehearse, transfer
        from ..work import claim
    keras.config.set_dtype_policy(args.precision)
    keras.utils.set_random_seed(args.seed)
    labels = {path: load_labels(path) for path in args.labels}
    for path, one in labels.items():
        warn(path, one, one.clips)
    labelled = [clip for one in labels.values() for clip in one.clips]
    clips = {split: [c for c in labelled if c.split == split] for split in ("train", "val")}
    if not clips["train"]:
        raise DatasetError(f"{args.labels[0]}: has no row of the split train")
    base = _base(args)
    folder, backbone, weights = _begin(args, base, clips["train"])
    window = args.window if folder.sampling.num_frames > args.window else None
    work = args.work or args.output / "work"

    def look(clips, views=0):
        features = work / "features"
        return write_records(clips, backbone, folder.sampling, features, views, args.seed, weights)

    replay = look(read_labels(args.replay, "train")) if args.replay else None
    if replay and base is not None:
        replay = rehearse(base, replay, work / "rehearsal")
    records = {"train": look(clips["train"], args.views)}
    if clips["val"]:
        records["val"] = look(clips["val"])
    batches = read_records(
        records["train"],
        folder.vocabulary,
        args.batch_size,
        args.seed,
        replay,
        args.replay_share if replay else 0.0,
    )
    validation = None
    if clips["val"]:
        validation = read_records(records["val"], folder.vocabulary, args.batch_size)
    options = TrainingOptions(
        epochs=args.epochs or max(EPOCHS, -(-FEWEST_STEPS // len(batches))),
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        scheduled_sampling=args.scheduled_sampling,
        patience=args.patience,
        seed=args.seed,
    )
    captions = [clip.captions for clip in batches.clips]
    facts = [str(base and base.path.resolve()), args.freeze_encoder, args.views, window]
    claim(work / "state", captions, asdict(folder.model), asdict(options), facts)
    settings = {
        "Data": {name: getattr(args, name) for name in DATA_SETTINGS}
        | {"base": base and base.name},
        "Training": asdict(options),
    }
    with strategy().scope():
        model = CaptionModel(folder.model, window)
        if base is not None:
            transfer(base.load_model(), model, args.seed)
        looking = (model.projection, *model.encoder, *[model.motion] * bool(model.motion))
        for layer in looking if args.freeze_encoder else ():
            layer.trainable = False
        history = train(model, batches, validation, options, work / "state")
        if args.self_critical:
            options = replace(
                options,
                epochs=args.self_critical,
                learning_rate=SELF_CRITICAL_RATE * options.learning_rate,
                samples=SAMPLES,
            )
            settings["Self-critical training"] = asdict(options)
            claim(work / "self_critical", captions, asdict(folder.model), asdict(options), facts)
            rounds = train(model, batches, validation, options, work / "self_critical")
            history = then_rewarded(history, rounds)
    with writing(folder.path):
        folder.save(model, weights, args.half)
    with only_told():
        write_programs(folder)
    with only_told():
        report_captions(folder, model, base, history, labels, records, validation, settings)
    return ALL_GOOD


def _base(args) -> ModelFolder | None:
    """The model to go on from."""
    own_cnn = args.backbone or args.cnn or args.input_size
    if args.base == "none" or (args.base is None and own_cnn):
        return None
    if own_cnn:
        raise CaptionerError(
            "a base brings its own CNN: leave out --backbone, --cnn and --input-size, or --base"
        )
    return ModelFolder.open(args.base or DEFAULT_MODEL)


def _begin(args, base: ModelFolder | None, clips):
    """The model folder to be, its backbone, and the file of that one's weights."""
    from captioner.backbones import load_backbone

    from ..transfer import grow_vocabulary, permit_repetition

    captions = [caption for clip in clips for caption in clip.captions]
    sampling = base.sampling if base is not None else SamplingOptions()
    if args.frames is not None:
        sampling = SamplingOptions(args.frames)
    told = {name: getattr(args, name) for name in ("no_repeat_ngram_size", "length_penalty")}
    told = {name: value for name, value in told.items() if value is not None}
    if base is not None:
        vocabulary = grow_vocabulary(base.vocabulary, captions, args.min_count)
        motion_dim = base.model.motion_dim or (0 if args.freeze_encoder else MOTION_DIM)
        config = replace(base.model, vocab_size=len(vocabulary), motion_dim=motion_dim)
        weights = base.path / BACKBONE_WEIGHTS if base.cnn else None
        decoding = replace(permit_repetition(base.decoding, captions), **told)
        changes = {"sampling": sampling, "decoding": decoding, "vocabulary": vocabulary}
        folder = replace(base, path=args.output, model=config, **changes)
        return folder, base.load_backbone(), weights
    name = args.backbone or "bundled"
    cnn, weights = _bundled_cnn(args)
    backbone = load_backbone(name, cnn, weights)
    vocabulary = Vocabulary.build(captions, args.min_count)
    *num_regions, feature_dim = backbone.feature_shape
    config = ModelConfig(len(vocabulary), feature_dim, *num_regions, motion_dim=MOTION_DIM)
    decoding = DecodingOptions(**told)
    folder = ModelFolder(args.output, config, name, cnn, sampling, decoding, vocabulary)
    return folder, backbone, weights


def _bundled_cnn(args):
    """Shape and weights of a CNN of `captioner distill`, or of that of the default model, if any.

    It may see frames larger than in its own training: there it saw crops, in which things are
    larger than in whole frames (Touvron et al. 2019, "Fixing the train-test resolution
    discrepancy").
    """
    from ..cnn.distill import CNN_CONFIG

    if args.backbone not in (None, "bundled"):
        if args.cnn or args.input_size:
            raise CaptionerError("--cnn and --input-size go with --backbone bundled only")
        return None, None
    if args.cnn is None:
        default = ModelFolder.open()
        cnn, weights = default.cnn, default.path / BACKBONE_WEIGHTS
    else:
        weights = args.cnn / BACKBONE_WEIGHTS
        try:
            cnn = CnnConfig.from_dict(json.loads((args.cnn / CNN_CONFIG).read_text()))
        except (OSError, ValueError, TypeError) as err:
            raise DatasetError(f"{args.cnn}: not the output of captioner distill ({err})") from err
    if args.input_size is None:
        return cnn, weights
    try:
        return replace(cnn, input_size=args.input_size), weights
    except ValueError as err:
        raise CaptionerError(f"--input-size: {err}") from err
