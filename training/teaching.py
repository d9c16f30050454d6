"""Teaching: models of one shape, on all clips or on some of them, from one base or from none."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np

from captioner.engines.keras_engine import KerasEngine
from captioner.model import CaptionModel
from captioner.model_folder import ModelFolder
from captioner.reranker import RerankingEngine
from captioner.vocabulary import Vocabulary

from .captioning import caption_features
from .data.records import Records, read_records
from .devices import strategy
from .objectives import Rehearsing
from .options import CaptionTraining
from .pace import Pace
from .rehearsal import Rehearsal
from .trainer import Course, TrainingOptions, then_rewarded, train
from .transfer import Base, contradicted, imprint, names_in, recall, transfer
from .work import claim

SAMPLES, SELF_CRITICAL_RATE = 5, 0.05  # of the learning rate before it
DATA_SETTINGS = (
    "backbone cnn input_size rehearse freeze_encoder views window min_count precision"
).split()
REHEARSED = 16  # clips of the base in a step
NUM_JUDGED = 200  # clips of the base that are kept from it, to look for harm on
READ = 64  # clips


class Teaching:
    """A model that learns, again from the start where it is asked to.

    Attributes:
        options: of the whole training.
        pace: how hard and how long.
        folder: the model folder to be.
        backbone_weights: the file of its CNN's weights; None where that has none of its own.
        records: what is learned from, of each source.
        validation: what is not; None without any.
        selects: whether the weights are those of the round that did best on it. Few clips tell
            rounds apart by chance only, and can then not judge: so those that were held out for
            the judgement do not select, and the last round stays.
        base: what is gone on from; None without one.
        rehearsal: what stands for the knowledge of the base; None without any.
        judged: some of it that is not rehearsed, for a judge to look for harm on; None likewise.
        names: new words that are said of several clips.
        replaced: words of the base in whose place these have come.
        model: the model.
    """

    def __init__(
        self,
        options: CaptionTraining,
        pace: Pace,
        folder: ModelFolder,
        backbone_weights: Path | None,
        records: Sequence[Records],
        validation: Records | None = None,
        base: Base | None = None,
        rehearsal: Rehearsal | None = None,
        selects: bool = True,
    ):
        self.options, self.pace, self.folder, self.base = options, pace, folder, base
        self.backbone_weights = backbone_weights
        self.records, self.validation, self.selects = records, validation, selects
        self.rehearsal, self.judged, self._known = rehearsal, None, None
        self.replaced: frozenset[str] = frozenset()
        self._work = options.work or options.output / "work"
        self._window = options.window if folder.sampling.num_frames > options.window else None
        self._course: tuple[tuple, Course] | None = None
        if rehearsal is not None:
            self._remember(rehearsal.stretched(folder.sampling.num_frames))
        clips = [clip for one in records for clip in one.clips]
        self._name_ids = names_in(clips, folder.vocabulary, base) if base else ()
        self.names = tuple(folder.vocabulary.tokens[token_id] for token_id in self._name_ids)
        self._strategy = strategy()
        with self._strategy.scope():
            self.model = CaptionModel(folder.model, self._window)
        model = self.model
        encoder = (model.projection, *model.encoder, *[model.motion] * bool(model.motion))
        for layer in encoder if options.freeze_encoder else ():
            layer.trainable = False
        self._engine = KerasEngine(model)
        if base is not None:  # whose reranker goes along
            self._engine = RerankingEngine.of(self._engine, base.folder.path)

    def _remember(self, rehearsal: Rehearsal):
        """Has the base caption what it rehearses, but for what the corrections contradict."""
        order = np.random.default_rng(self.options.seed).permutation(len(rehearsal))
        num_judged = min(NUM_JUDGED, len(order) // 4)
        self.judged = rehearsal.select(order[:num_judged])
        known = recall(self.base, rehearsal.select(order[num_judged:]))
        vocabulary = self.base.folder.vocabulary
        features = [clip for one in self.records for clip in features_of(one, vocabulary)]
        said = self.base.caption(features, self.base.greedily)
        corrections = [clip.captions[0] for one in self.records for clip in one.clips]
        self.replaced = contradicted(said, corrections, vocabulary, known)
        if self.replaced:
            print(
                f"captioner: not rehearsed, since something new is said instead: "
                f"{', '.join(sorted(self.replaced))}",
                file=sys.stderr,
            )
        self._known = known.without(self.replaced)

    def fit(
        self, records: Sequence[Records] | None = None, part: str = ""
    ) -> tuple[list[dict], dict[str, dict]]:
        """Trains the model, from the base or, the first time, from nothing.

        Args:
            records: what from, of each source, in place of all; nothing is measured then.
            part: names the folder of its state.

        Returns:
            The history, as `training.trainer.train` has it, and the settings.
        """
        options, pace, folder, base = self.options, self.pace, self.folder, self.base
        words, size, seed = folder.vocabulary, pace.batch_size, options.seed
        length = pace.pass_steps and pace.pass_steps * size
        validation = None
        if records is None:
            records = self.records
            if self.validation is not None and self.selects:
                validation = read_records(self.validation, words, size)
        batches = read_records(records, words, size, seed, options.shares, length)
        rounds = TrainingOptions(
            epochs=options.epochs or max(pace.passes, -(-pace.steps // len(batches))),
            batch_size=size,
            learning_rate=pace.learning_rate,
            label_smoothing=pace.label_smoothing,
            scheduled_sampling=options.scheduled_sampling,
            patience=options.patience,
            names=self._name_ids,
            seed=seed,
        )
        state = self._work / f"state{part}"
        captions = [clip.captions for clip in batches.clips]
        facts = [str(base and base.folder.path.resolve()), options.freeze_encoder, pace.views]
        facts += [self._window, *(options.shares or ()), str(options.rehearse)]
        claim(state, captions, asdict(folder.model), asdict(rounds), facts)
        settings = {"Data": self._data(), "Training": asdict(rounds)}
        with self._strategy.scope():
            if base is not None:
                transfer(base.model, self.model, seed)
                places = read_records(records, words, READ, seed)
                imprint(self.model, base, places, self._known, self._name_ids, seed)
            made_for = len(batches), rounds
            if self._course is None or self._course[0] != made_for:
                rehearse = self._rehearse if self._known else None
                self._course = made_for, Course(self.model, batches, rounds, rehearse)
            history = self._course[1].run(batches, validation, state)
            if options.self_critical and not part:
                rounds = replace(
                    rounds,
                    epochs=options.self_critical,
                    learning_rate=SELF_CRITICAL_RATE * rounds.learning_rate,
                    samples=SAMPLES,
                )
                settings["Self-critical training"] = asdict(rounds)
                state = self._work / "self_critical"
                claim(state, captions, asdict(folder.model), asdict(rounds), facts)
                rewarded = train(self.model, batches, validation, rounds, state)
                history = then_rewarded(history, rewarded)
        return history, settings

    def _rehearse(self, learner: keras.Model) -> Rehearsing:
        pace, base = self.pace, self.base.model
        return Rehearsing(
            learner,
            self.model,
            base,
            self._known,
            weight=pace.known,
            batch_size=REHEARSED,
            seed=self.options.seed,
            coarse=pace.coarse,
        )

    def _data(self) -> dict:
        data = {name: getattr(self.options, name) for name in DATA_SETTINGS}
        data |= {"base": self.base and self.base.folder.name, "views": self.pace.views}
        if self._known:
            data |= {"clips rehearsed": len(self._known.rehearsal)}
            data |= {"weight of what the base knows": self.pace.known}
        for path, share in zip(self.options.paths, self.options.shares or ()):
            data[f"share of {path}"] = share
        return data

    def features(self, records: Records) -> list[np.ndarray]:
        """Those of each clip as it is, without its views."""
        return features_of(records, self.folder.vocabulary)

    def caption(self, features: Sequence[np.ndarray]) -> list[str]:
        """What the model says of clips now, as people read it."""
        said = caption_features(self._engine, features, self.folder.decoding)
        return [self.folder.vocabulary.decode(token_ids) for token_ids in said]


def features_of(records: Records, vocabulary: Vocabulary) -> list[np.ndarray]:
    """The features of each clip as it is, without its views."""
    found = {}
    bare = records.select(range(len(records.clips)), views=False)
    for inputs, _ in read_records(bare, vocabulary, READ).read():
        rows = zip(inputs["clip"].numpy(), inputs["features"].numpy(), strict=True)
        lengths = inputs["sequence_length"].numpy()
        found |= {clip: row[:length] for (clip, row), length in zip(rows, lengths, strict=True)}
    return [found[clip] for clip in range(len(bare.clips))]
