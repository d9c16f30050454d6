"""A whole training of a model that captions: from options to a model folder.

    train_captioner(CaptionTraining(labels=(Path("labels.csv"),), output=Path("my-model")))

The command `captioner train` and the page, which runs it in a process of its own, come here too.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import keras

from captioner.cnn import Backbone, load_backbone
from captioner.config import DecodingOptions, ModelConfig, SamplingOptions
from captioner.engines.programs import write_programs
from captioner.errors import DatasetError
from captioner.model import CaptionModel
from captioner.model_folder import BACKBONE_WEIGHTS, DEFAULT_MODEL, ModelFolder
from captioner.vocabulary import Vocabulary

from .cnn.folder import bundled_cnn
from .data.manifest import LabelledClip, load_labels, read_labels, warn
from .data.records import read_records, write_records
from .devices import precision, strategy
from .options import CaptionTraining
from .report import report_captions, then_rewarded
from .trainer import TrainingOptions, train
from .transfer import grow_vocabulary, permit_repetition, rehearse, transfer
from .work import claim, only_told, writing

EPOCHS, FEWEST_STEPS = 10, 300  # of a training that is not told how long
REPLAY_SHARE = 0.3
SAMPLES, SELF_CRITICAL_RATE = 5, 0.05  # of the learning rate before it
MOTION_DIM = 64  # of models that do not have one of their own
DATA_SETTINGS = (
    "backbone cnn input_size replay replay_share freeze_encoder views window min_count precision"
).split()


def train_captioner(options: CaptionTraining) -> ModelFolder:
    """Trains a model that captions, and writes its folder, its programs and its report.

    Called again with the same options it goes on where it was stopped, to the same weights.

    Args:
        options: what from, how, and where to.

    Returns:
        The model folder.

    Raises:
        DatasetError: the labels, or none of the clips, can be used; a folder cannot be written,
            or holds the work of another training.
        ModelError: the base cannot be used.
        CaptionerError: options that do not fit the CNN.
    """
    with precision(options.precision):
        keras.utils.set_random_seed(options.seed)
        return _train(options)


def _train(options: CaptionTraining) -> ModelFolder:
    labels = {path: load_labels(path) for path in options.paths}
    for path, one in labels.items():
        warn(path, one, one.clips)
    labelled = [clip for one in labels.values() for clip in one.clips]
    clips = {split: [c for c in labelled if c.split == split] for split in ("train", "val")}
    # What is learned from, in as many parts as there are shares.
    learned = [clips["train"]]
    if options.shares:
        learned = [[c for c in one.clips if c.split == "train"] for one in labels.values()]
    for path, several in zip(labels, learned):
        if not several:
            raise DatasetError(f"{path}: has no row of the split train")
    base = ModelFolder.open(options.base or DEFAULT_MODEL) if options.has_base else None
    folder, backbone, weights = _begin(options, base, clips["train"])
    window = options.window if folder.sampling.num_frames > options.window else None
    work = options.work or options.output / "work"

    def extract(clips, views=0):
        features = work / "features"
        return write_records(
            clips, backbone, folder.sampling, features, views, options.seed, weights
        )

    replay = extract(read_labels(options.replay, "train")) if options.replay else None
    if replay and base is not None:
        replay = rehearse(base, replay, work / "rehearsal")
    share = REPLAY_SHARE if options.replay_share is None else options.replay_share
    records = [extract(several, options.views) for several in learned]
    batches = read_records(
        records,
        folder.vocabulary,
        options.batch_size,
        options.seed,
        options.shares,
        replay,
        share if replay else 0.0,
    )
    validation = None
    if clips["val"]:
        records.append(extract(clips["val"]))
        validation = read_records(records[-1], folder.vocabulary, options.batch_size)
    rounds = TrainingOptions(
        epochs=options.epochs or max(EPOCHS, -(-FEWEST_STEPS // len(batches))),
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        scheduled_sampling=options.scheduled_sampling,
        patience=options.patience,
        seed=options.seed,
    )
    captions = [clip.captions for clip in batches.clips]
    facts = [str(base and base.path.resolve()), options.freeze_encoder, options.views, window]
    facts += options.shares or ()
    claim(work / "state", captions, asdict(folder.model), asdict(rounds), facts)
    data = {name: getattr(options, name) for name in DATA_SETTINGS} | {"base": base and base.name}
    for path, one in zip(labels, options.shares or ()):
        data[f"share of {path}"] = one
    if replay is not None:
        data["replay_share"] = share
    settings = {"Data": data, "Training": asdict(rounds)}
    with strategy().scope():
        model = CaptionModel(folder.model, window)
        if base is not None:
            transfer(base.load_model(), model, options.seed)
        encoder = (model.projection, *model.encoder, *[model.motion] * bool(model.motion))
        for layer in encoder if options.freeze_encoder else ():
            layer.trainable = False
        history = train(model, batches, validation, rounds, work / "state")
        if options.self_critical:
            rounds = replace(
                rounds,
                epochs=options.self_critical,
                learning_rate=SELF_CRITICAL_RATE * rounds.learning_rate,
                samples=SAMPLES,
            )
            settings["Self-critical training"] = asdict(rounds)
            claim(work / "self_critical", captions, asdict(folder.model), asdict(rounds), facts)
            rewarded = train(model, batches, validation, rounds, work / "self_critical")
            history = then_rewarded(history, rewarded)
    with writing(folder.path):
        folder.save(model, weights, options.half)
    with only_told():
        write_programs(folder)
    with only_told():
        report_captions(folder, model, base, history, labels, records, validation, settings)
    return folder


def _begin(
    options: CaptionTraining, base: ModelFolder | None, clips: Sequence[LabelledClip]
) -> tuple[ModelFolder, Backbone, Path | None]:
    """The model folder to be, its backbone, and the file of that one's weights."""
    captions = [caption for clip in clips for caption in clip.captions]
    sampling = base.sampling if base is not None else SamplingOptions()
    if options.frames is not None:
        sampling = replace(sampling, num_frames=options.frames)
    chosen = {name: getattr(options, name) for name in ("no_repeat_ngram_size", "length_penalty")}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if base is not None:
        vocabulary = grow_vocabulary(base.vocabulary, captions, options.min_count)
        motion_dim = base.model.motion_dim or (0 if options.freeze_encoder else MOTION_DIM)
        config = replace(base.model, vocab_size=len(vocabulary), motion_dim=motion_dim)
        weights = base.path / BACKBONE_WEIGHTS if base.cnn else None
        decoding = replace(permit_repetition(base.decoding, captions), **chosen)
        changes = {"sampling": sampling, "decoding": decoding, "vocabulary": vocabulary}
        folder = replace(base, path=options.output, model=config, **changes)
        return folder, base.load_backbone(), weights
    name, cnn, weights = options.backbone or "bundled", None, None
    if name == "bundled":
        cnn, weights = bundled_cnn(options.cnn, options.input_size)
    backbone = load_backbone(name, cnn, weights)
    vocabulary = Vocabulary.build(captions, options.min_count)
    *num_regions, feature_dim = backbone.feature_shape
    config = ModelConfig(
        len(vocabulary), feature_dim, *num_regions, motion_dim=MOTION_DIM, **options.shape
    )
    decoding = DecodingOptions(**chosen)
    folder = ModelFolder(options.output, config, name, cnn, sampling, decoding, vocabulary)
    return folder, backbone, weights
