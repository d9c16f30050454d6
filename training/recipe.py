"""A whole training of a model that captions: from options to a model folder.

    train_captioner(CaptionTraining(labels=(Path("labels.csv"),), output=Path("my-model")))

The command `captioner train` and the page, which runs it in a process of its own, come here too.

What goes on from a base is held to what the base knows (`training.rehearsal`), the more strongly
the fewer clips there are to learn from, and is judged on clips that it has not learned from. Where
it is no better, no model is written: the base is the better one.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np

from captioner.cnn import Backbone, load_backbone
from captioner.config import DecodingOptions, ModelConfig, SamplingOptions
from captioner.engines.keras_engine import KerasEngine
from captioner.engines.programs import write_programs
from captioner.errors import DatasetError
from captioner.model import CaptionModel
from captioner.model_folder import BACKBONE_WEIGHTS, DEFAULT_MODEL, ModelFolder
from captioner.vocabulary import Vocabulary, join

from .cnn.folder import bundled_cnn
from .data.manifest import LabelledClip, load_labels, read_labels, warn
from .data.records import Records, read_records, write_records
from .devices import precision, strategy
from .judgement import Judgement, NotBetter, judge
from .objectives import Rehearsing
from .options import CaptionTraining
from .rehearsal import NUM_CLIPS, Rehearsal
from .report import report_captions, then_rewarded
from .trainer import TrainingOptions, train
from .transfer import (
    caption_features,
    contradicted,
    grow_vocabulary,
    imprint,
    permit_repetition,
    recall,
    transfer,
)
from .work import claim, only_told, writing

EPOCHS, FEWEST_STEPS, BATCH_SIZE, LEARNING_RATE = 10, 300, 64, 1e-3  # by default, without a base
SAMPLES, SELF_CRITICAL_RATE = 5, 0.05  # of the learning rate before it
MOTION_DIM = 64  # of models that do not have one of their own
DATA_SETTINGS = (
    "backbone cnn input_size rehearse freeze_encoder views window min_count precision"
).split()
# Of a training that goes on from a base. So many clips count as much as all that the base knows:
KNOWN_CLIPS = 1200
REHEARSED = 16  # clips of the base in a step
FEW = 20  # clips; up to so many the rate, the steps and the batches are the smallest
FEW_RATE, FEW_STEPS, FEW_BATCH, MOST_STEPS = 2e-4, 60, 16, 1500
MOST_VIEWED = 400  # clips and their views, where not told otherwise; a clip has at most:
MOST_VIEWS = 8
MOST_FOLDED, FOLDS, HELD_OUT = 100, 3, 10  # clips; parts; one of so many of more clips
NUM_JUDGED = 200  # clips of the base on which harm is looked for


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
    labels = {path: load_labels(path) for path in options.paths}
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
    base = ModelFolder.open(options.base or DEFAULT_MODEL) if options.has_base else None
    if base is not None and not held_out and sum(map(len, learned)) > MOST_FOLDED:
        learned, held_out = _hold_out(learned, options.seed)
    folder, backbone, weights = _begin(options, base, [c for part in learned for c in part])
    work = options.work or options.output / "work"
    pace = _pace(options, sum(map(len, learned)), base is not None)

    def extract(clips, views=0):
        features = work / "features"
        return write_records(
            clips, backbone, folder.sampling, features, views, options.seed, weights
        )

    records = [extract(several, pace.views) for several in learned]
    validation = extract(held_out) if held_out else None
    training = _Training(options, pace, folder, base, work)
    if base is not None:
        training.remember(_rehearsal(options, base, extract), records)
    model, history, settings = training.fit(records, validation)
    if base is not None:
        judgement = training.judge(model, records, validation)
        with writing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        judgement.save(folder.path)
        print(f"captioner: {judgement.describe()}", file=sys.stderr)
        if not (judgement.is_better or options.force):
            raise NotBetter(
                f"{folder.path}: no model was written, for {base.name} captions better; give the "
                "same command with --force to write it all the same"
            )
    with writing(folder.path):
        folder.save(model, weights, options.half)
        rehearsal = training.rehearsal or _keep(records, folder, options.seed)
        rehearsal.save(folder.path)
    with only_told():
        write_programs(folder)
    with only_told():
        tested = None
        if validation is not None:
            records.append(validation)
            tested = read_records(validation, folder.vocabulary, pace.batch_size)
        report_captions(folder, model, base, history, labels, records, tested, settings)
    return folder


@dataclass(frozen=True)
class _Pace:
    """How hard and how long to train.

    Attributes:
        views: further ones of each clip.
        batch_size: clips in a batch.
        learning_rate: at its peak.
        steps: of the whole training, at least, where its passes were not told.
        passes: over all clips, at least, likewise.
        known: how much what the base knows counts against the clips, which count 1.
    """

    views: int
    batch_size: int
    learning_rate: float
    steps: int
    passes: int
    known: float


def _pace(options: CaptionTraining, num_clips: int, has_base: bool) -> _Pace:
    """What follows from the number of clips, where it was not told."""
    views, batch_size, rate, steps, passes = 0, BATCH_SIZE, LEARNING_RATE, FEWEST_STEPS, EPOCHS
    if has_base:
        views = min(MOST_VIEWS, max(0, MOST_VIEWED // num_clips - 1))
        more = max(1.0, num_clips / FEW)
        batch_size = FEW_BATCH if num_clips <= MOST_FOLDED else BATCH_SIZE // 2
        rate = min(FEW_RATE * more**0.7, LEARNING_RATE)
        steps, passes = min(int(FEW_STEPS * more), MOST_STEPS), 1
    return _Pace(
        views if options.views is None else options.views,
        options.batch_size or batch_size,
        options.learning_rate or rate,
        steps,
        passes,
        max(1.0, KNOWN_CLIPS / num_clips),
    )


def _hold_out(
    learned: Sequence[Sequence[LabelledClip]], seed: int
) -> tuple[list[list[LabelledClip]], list[LabelledClip]]:
    """Moves one of `HELD_OUT` videos, with all of its clips, to what a model is judged on."""
    folds = [_folds(part, HELD_OUT, seed) for part in learned]
    print(
        f"captioner: no row has the split val: one of {HELD_OUT} videos is held out, to judge the "
        "new model on",
        file=sys.stderr,
    )
    pairs = [[*zip(part, fold)] for part, fold in zip(learned, folds)]
    return (
        [[clip for clip, fold in part if fold] for part in pairs],
        [clip for part in pairs for clip, fold in part if not fold],
    )


def _folds(clips: Sequence[LabelledClip], num_folds: int, seed: int) -> np.ndarray:
    """The part that each clip belongs to, `(num_clips,)`; those of a video to the same one."""
    videos = {clip.files: None for clip in clips}
    order = np.random.default_rng(seed).permutation(len(videos)) % num_folds
    parts = dict(zip(videos, order.tolist()))
    return np.array([parts[clip.files] for clip in clips])


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
    return Rehearsal.build(_features(records, base.vocabulary), options.seed)


def _keep(records: Sequence[Records], folder: ModelFolder, seed: int) -> Rehearsal:
    """What a model that began from nothing will rehearse, when another goes on from it."""
    several = [clip for one in records for clip in _features(one, folder.vocabulary)]
    return Rehearsal.build(several, seed)


def _features(records: Records, vocabulary: Vocabulary) -> list[np.ndarray]:
    """The features of each clip as it is, without its views."""
    found = {}
    bare = records.select(range(len(records.clips)), views=False)
    for inputs, _ in read_records(bare, vocabulary, BATCH_SIZE).read():
        rows = zip(inputs["clip"].numpy(), inputs["features"].numpy(), strict=True)
        lengths = inputs["sequence_length"].numpy()
        found |= {clip: row[:length] for (clip, row), length in zip(rows, lengths, strict=True)}
    return [found[clip] for clip in range(len(bare.clips))]


class _Training:
    """Trains models of one shape, on all clips and on parts of them.

    Attributes:
        rehearsal: what stands for the knowledge of the base; None without any.
    """

    def __init__(self, options, pace, folder, base, work):
        self.options, self.pace, self.work = options, pace, work
        self.folder, self.base = folder, base
        self.window = options.window if folder.sampling.num_frames > options.window else None
        self.rehearsal = self.recollection = None
        if base is not None:
            self.base_model = base.load_model()
            self.base_engine = KerasEngine(self.base_model)
            self.engine = KerasEngine(CaptionModel(folder.model))  # of each model in its turn

    def remember(self, rehearsal: Rehearsal | None, records: Sequence[Records]):
        """Has the base caption what it rehearses, but for what the corrections contradict."""
        self.rehearsal = rehearsal
        if rehearsal is None:
            return
        options = replace(self.base.decoding, beam_size=1)
        vocabulary = self.base.vocabulary
        order = np.random.default_rng(self.options.seed).permutation(len(rehearsal))
        num_judged = min(NUM_JUDGED, len(order) // 4)
        self.judged = rehearsal.select(order[:num_judged])
        recollection = recall(
            self.base_engine, vocabulary, rehearsal.select(order[num_judged:]), options
        )
        clips = [clip for one in records for clip in one.clips]
        features = [clip for one in records for clip in _features(one, vocabulary)]
        said = caption_features(self.base_engine, vocabulary, features, options)
        corrections = [clip.captions[0] for clip in clips]
        words = contradicted(said, corrections, vocabulary, recollection)
        if words:
            print(
                f"captioner: not rehearsed, since something new is said instead: "
                f"{', '.join(sorted(words))}",
                file=sys.stderr,
            )
        self.recollection = recollection.without(words)

    def fit(self, records: Sequence[Records], validation: Records | None, part: str = ""):
        """Trains a model.

        Args:
            records: what from, of each source.
            validation: other clips, or None.
            part: names the folder of its state.

        Returns:
            `(model, history, settings)`.
        """
        options, pace, folder, base = self.options, self.pace, self.folder, self.base
        batches = read_records(
            records, folder.vocabulary, pace.batch_size, options.seed, options.shares
        )
        if validation is not None:
            validation = read_records(validation, folder.vocabulary, pace.batch_size)
        rounds = TrainingOptions(
            epochs=options.epochs or max(pace.passes, -(-pace.steps // len(batches))),
            batch_size=pace.batch_size,
            learning_rate=pace.learning_rate,
            scheduled_sampling=options.scheduled_sampling,
            patience=options.patience,
            num_known=base and base.model.vocab_size,
            seed=options.seed,
        )
        state = self.work / f"state{part}"
        captions = [clip.captions for clip in batches.clips]
        facts = [str(base and base.path.resolve()), options.freeze_encoder, pace.views, self.window]
        facts += [*(options.shares or ()), str(options.rehearse)]
        claim(state, captions, asdict(folder.model), asdict(rounds), facts)
        settings = {"Data": self._data(), "Training": asdict(rounds)}
        with strategy().scope():
            model = CaptionModel(folder.model, self.window)
            if base is not None:
                transfer(self.base_model, model, options.seed)
                imprint(model, self.base_model, batches, self.recollection, options.seed)
            encoder = (model.projection, *model.encoder, *[model.motion] * bool(model.motion))
            for layer in encoder if options.freeze_encoder else ():
                layer.trainable = False
            rehearse = self._rehearse(model) if self.recollection else None
            history = train(model, batches, validation, rounds, state, rehearse)
            if options.self_critical and not part:
                rounds = replace(
                    rounds,
                    epochs=options.self_critical,
                    learning_rate=SELF_CRITICAL_RATE * rounds.learning_rate,
                    samples=SAMPLES,
                )
                settings["Self-critical training"] = asdict(rounds)
                state = self.work / "self_critical"
                claim(state, captions, asdict(folder.model), asdict(rounds), facts)
                history = then_rewarded(history, train(model, batches, validation, rounds, state))
        return model, history, settings

    def _rehearse(self, model):
        known, pace = self.recollection, self.pace

        def rehearse(learner):
            return Rehearsing(
                learner,
                model,
                self.base_model,
                known.rehearsal,
                known.token_ids,
                pace.known,
                REHEARSED,
                self.options.seed,
            )

        return rehearse

    def _data(self) -> dict:
        options, base = self.options, self.base
        data = {name: getattr(options, name) for name in DATA_SETTINGS}
        data |= {"base": base and base.name, "views": self.pace.views}
        if self.recollection:
            data |= {"clips rehearsed": len(self.recollection.rehearsal)}
            data |= {"weight of what the base knows": self.pace.known}
        for path, share in zip(options.paths, options.shares or ()):
            data[f"share of {path}"] = share
        return data

    def judge(
        self, model: CaptionModel, records: Sequence[Records], validation: Records | None
    ) -> Judgement:
        """Compares the new model with the base on clips that it has not learned from.

        Those are the split val. Without one, few clips are parted into `FOLDS`, and what is said of
        each part is said by a model that learned from the other parts, as long and as hard.
        """
        if validation is not None:
            pairs = self._pairs(model, validation)
        else:
            pairs = self._cross_validate(records)
        others = (), ()
        if self.rehearsal is not None:
            features = [self.judged.features(clip) for clip in range(len(self.judged))]
            others = tuple(self._caption(one, features) for one in (None, model))
        taught = [caption for one in records for clip in one.clips for caption in clip.captions]
        return judge(pairs, taught, others, self.options.seed)

    def _cross_validate(self, records: Sequence[Records]) -> list[dict]:
        parts = [_folds(one.clips, FOLDS, self.options.seed) for one in records]
        pairs = []
        for number in range(FOLDS):
            tested = [
                one.select(np.flatnonzero(part == number)) for one, part in zip(records, parts)
            ]
            kept = [one.select(np.flatnonzero(part != number)) for one, part in zip(records, parts)]
            if not all(one.clips for one in kept) or not any(one.clips for one in tested):
                continue
            print(f"captioner: judging, part {number + 1} of {FOLDS}", file=sys.stderr)
            model, _, _ = self.fit(kept, None, f"-part-{number + 1}")
            for one in tested:
                pairs += self._pairs(model, one) if one.clips else []
        return pairs

    def _pairs(self, model: CaptionModel, records: Records) -> list[dict]:
        features = _features(records, self.folder.vocabulary)
        old, new = self._caption(None, features), self._caption(model, features)
        return [
            {
                "video": str(clip.path),
                "start": clip.start,
                "end": clip.end,
                "wanted": list(clip.captions),
                "old": before,
                "new": after,
            }
            for clip, before, after in zip(records.clips, old, new, strict=True)
        ]

    def _caption(self, model: CaptionModel | None, features) -> list[str]:
        """What a model, or the base, says, as people read it."""
        folder, engine = self.base, self.base_engine
        if model is not None:
            folder, engine = self.folder, self.engine
            self.engine.model.set_weights(model.get_weights())
        said = caption_features(engine, folder.vocabulary, features, folder.decoding)
        return [join(one.split()) for one in said]


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
