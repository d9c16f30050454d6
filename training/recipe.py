"""A whole training of a model that captions: from options to a model folder.

    train_captioner(CaptionTraining(labels=(Path("labels.csv"),), output=Path("my-model")))

The command `captioner train` and the page, which runs it in a process of its own, come here too.

What goes on from a base is held to what the base knows (`training.rehearsal`), the more strongly
the fewer clips there are to learn from, and is judged on clips that it has not learned from. Where
it is no better, no model is written: the base is the better one.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from captioner.cnn import Backbone, load_backbone
from captioner.config import DecodingOptions, ModelConfig, SamplingOptions
from captioner.engines.programs import write_programs
from captioner.errors import DatasetError
from captioner.model_folder import BACKBONE_WEIGHTS, DEFAULT_MODEL, ModelFolder
from captioner.reranker import RERANKER
from captioner.vocabulary import Vocabulary

from .cnn.folder import bundled_cnn
from .comparison import compare, hold_out
from .data.manifest import LabelledClip, Labels, load_labels, read_labels, warn
from .data.records import write_records
from .devices import precision
from .judgement import NotBetter
from .options import CaptionTraining
from .pace import MOST_FEW, Pace
from .rehearsal import NUM_CLIPS, Rehearsal
from .report import report_captions
from .teaching import Teaching, features_of
from .transfer import Base, grow_vocabulary, names_in, permit_repetition
from .work import only_told, writing

MOTION_DIM = 64  # of models that do not have one of their own


def train_captioner(options: CaptionTraining) -> ModelFolder:
    """Trains a model that captions, and writes its folder, its programs and its report.

    Called again with the same options it goes on where it was stopped, to the same weights. Beside
    a model that went on from a base lies the judgement on it, `judgement.json`.

    Args:
        options: what from, how, and where to.

    Returns:
        The model folder.

    Raises:
        NotBetter: the base captions better, and `options.force` is False.
        DatasetError: the labels, or none of the clips, can be used; a folder cannot be written,
            or holds the work of another training.
        ModelError: the base cannot be used.
        CaptionerError: options that do not fit the CNN.
    """
    with precision(options.precision):
        keras.utils.set_random_seed(options.seed)
        return _train(options)


def _train(options: CaptionTraining) -> ModelFolder:
    labels = load_all(options)
    for path, one in labels.items():
        warn(path, one, one.clips)
    # What is learned from, in as many parts as there are shares.
    parts = [one.clips for one in labels.values()]
    if not options.shares:
        parts = [[clip for part in parts for clip in part]]
    learned = [[clip for clip in part if clip.split == "train"] for part in parts]
    for path, several in zip(labels, learned):
        if not several:
            raise DatasetError(f"{path}: has no row of the split train")
    held_out = [clip for part in parts for clip in part if clip.split == "val"]
    selects = bool(held_out)
    if options.has_base and not held_out and sum(map(len, learned)) > MOST_FEW:
        learned, held_out = hold_out(learned, options.seed)
    teaching = prepare(options, learned, held_out, selects=selects)
    folder, base = teaching.folder, teaching.base
    history, settings = teaching.fit()
    judgement = None
    if base is not None:
        judgement = compare(teaching)
        with writing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        judgement.save(folder.path)
        print(f"captioner: {judgement.describe()}", file=sys.stderr)
        if not (judgement.is_better or options.force):
            raise NotBetter(
                f"{folder.path}: no model was written, for {base.folder.name} captions better; "
                "give the same command with --force to write it all the same"
            )
    with writing(folder.path):
        folder.save(teaching.model, teaching.backbone_weights, options.half)
        rehearsal = teaching.rehearsal or _keep(teaching)
        rehearsal.save(folder.path)
        if base is not None and (base.folder.path / RERANKER).exists():
            shutil.copyfile(base.folder.path / RERANKER, folder.path / RERANKER)
    with only_told():
        write_programs(folder)
    with only_told():
        report_captions(teaching, judgement, history, labels, settings)
    return folder


def load_all(options: CaptionTraining) -> dict[Path, Labels]:
    """Reads all labels to train on, by their paths.

    Raises:
        DatasetError: some cannot be used.
    """
    labels = {path: load_labels(path) for path in options.paths}
    if options.has_base and sum(len(one.clips) for one in labels.values()) <= MOST_FEW:
        # A tenth of so few would judge by chance; where nobody chose one, all are judged by parts.
        labels = {path: load_labels(path, val=0) for path in options.paths}
    return labels


def prepare(
    options: CaptionTraining,
    learned: Sequence[Sequence[LabelledClip]],
    held_out: Sequence[LabelledClip],
    base: Base | None = None,
    selects: bool = True,
) -> Teaching:
    """Makes all ready to learn: the base, the features of all clips, what the base knows.

    Args:
        options: what from, how, and where to.
        learned: clips to learn from, of each source.
        held_out: those to measure on.
        base: that of the options, where it was loaded before.
        selects: as of `Teaching`.
    """
    if options.has_base and base is None:
        base = Base(ModelFolder.open(options.base or DEFAULT_MODEL))
    clips = [clip for part in learned for clip in part]
    folder, backbone, weights = _begin(options, base and base.folder, clips)
    named = base is not None and bool(names_in(clips, folder.vocabulary, base))
    pace = Pace.choose(options, len(clips), named)

    def extract(clips, views=0):
        features = (options.work or options.output / "work") / "features"
        return write_records(
            clips, backbone, folder.sampling, features, views, options.seed, weights
        )

    records = [extract(part, pace.views) for part in learned]
    validation = extract(held_out) if held_out else None
    rehearsal = base and _rehearsal(options, base.folder, extract)
    return Teaching(options, pace, folder, weights, records, validation, base, rehearsal, selects)


def _rehearsal(options: CaptionTraining, base: ModelFolder, extract) -> Rehearsal | None:
    """What stands for the knowledge of the base: that in its folder, or clips that are named."""
    if not options.rehearse:
        found = Rehearsal.load(base.path)
        if found is None:
            print(
                f"captioner: {base.path}: has no rehearsal.npz, so more will be forgotten; name "
                "labels of clips like those that it learned from (--rehearse)",
                file=sys.stderr,
            )
        return found
    clips = read_labels(options.rehearse, "train")
    drawn = np.random.default_rng(options.seed).permutation(len(clips))[:NUM_CLIPS]
    records = extract([clips[clip] for clip in sorted(drawn)])
    return Rehearsal.build(features_of(records, base.vocabulary), options.seed)


def _keep(teaching: Teaching) -> Rehearsal:
    """What a model that began from nothing will rehearse, when another goes on from it."""
    several = [clip for one in teaching.records for clip in teaching.features(one)]
    return Rehearsal.build(several, teaching.options.seed)


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
        # Few clips tell too little of how things move.
        still = options.freeze_encoder or len(clips) <= MOST_FEW
        motion_dim = base.model.motion_dim or (0 if still else MOTION_DIM)
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
