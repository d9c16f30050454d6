"""What whole trainings can be told: frozen dataclasses, made by a command line or by hand.

Paths and choices; nothing is read before `training.recipe` takes them. A None stands for what
follows from others: from the base, or from how much there is to learn.
"""

from dataclasses import dataclass
from pathlib import Path

from captioner.errors import CaptionerError

NO_BASE = "none"
SHAPE = ("attention", "encoder", "encoder_layers", "bidirectional")  # fields of `ModelConfig`


@dataclass(frozen=True)
class Source:
    """Labels that are learned from beside others.

    Attributes:
        path: a label file of any format, or a folder of clips.
        share: how large a part of what is learned in a pass comes from it, beside the shares of
            the others.
    """

    path: Path
    share: float

    def __post_init__(self):
        if not 0 < self.share < float("inf"):
            raise CaptionerError(f"{self.path}: expected a share above 0, found {self.share:g}")


@dataclass(frozen=True)
class CaptionTraining:
    """A training of a model that captions.

    Attributes:
        labels: label files of any format, or folders of clips, each clip of which is learned from
            once in a pass; or all as `Source`, with a share for each.
        output: the model folder to write.
        base: name or folder of the model to go on from; `none`: without one; None: the default
            model, unless one of the next seven is given.
        backbone: without a base, what turns frames into features: `bundled`, or another that
            `captioner.cnn.load_backbone` knows.
        cnn: without a base, the output of `captioner distill` that replaces the default CNN.
        input_size: without a base, height and width at which the bundled CNN sees frames, pixels.
        attention: without a base, as the next three, a field of `captioner.config.ModelConfig`.
        encoder: see there.
        encoder_layers: see there.
        bidirectional: see there.
        freeze_encoder: with a base, trains its decoder alone.
        rehearse: with a base, labels of clips like those that it learned from, for one that has no
            `rehearsal.npz` in its folder.
        force: writes a model that is no better than its base too.
        work: where features and the state are kept; None: `work` in `output`.
        min_count: words that the captions have less often are not learned.
        views: further views of each clip to learn from; None, as of the next three: what suits the
            number of clips.
        frames: sampled from a clip.
        window: frames of a clip that a gradient flows back through.
        scheduled_sampling: share of the words read that are the model's own at the end.
        self_critical: passes at the end that are rewarded by CIDEr.
        patience: measurements on the split val without a better one after which to stop; 0: never.
        epochs: passes over the clips.
        batch_size: clips in a batch.
        learning_rate: at its peak.
        no_repeat_ngram_size: of the search, kept in the model folder.
        length_penalty: of the search, kept in the model folder.
        half: saves weights in half precision.
        precision: a Keras dtype policy.
        seed: of weights, order and dropout.

    Raises:
        CaptionerError: options that exclude one another.
    """

    labels: tuple[Path, ...] | tuple[Source, ...]
    output: Path
    base: str | Path | None = None
    backbone: str | None = None
    cnn: Path | None = None
    input_size: int | None = None
    attention: str | None = None
    encoder: str | None = None
    encoder_layers: int | None = None
    bidirectional: bool | None = None
    freeze_encoder: bool = False
    rehearse: Path | None = None
    force: bool = False
    work: Path | None = None
    min_count: int = 1
    views: int | None = None
    frames: int | None = None
    window: int = 64
    scheduled_sampling: float = 0.0
    self_critical: int = 0
    patience: int = 5
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    no_repeat_ngram_size: int | None = None
    length_penalty: float | None = None
    half: bool = False
    precision: str = "float32"
    seed: int = 1

    def __post_init__(self):
        if len({isinstance(one, Source) for one in self.labels}) > 1:
            raise CaptionerError("give each of the labels a share (LABELS=SHARE), or none of them")
        if len(set(self.paths)) < len(self.paths):
            raise CaptionerError("name each of the labels once")
        if self.rehearse is not None and not self.has_base:
            raise CaptionerError("--rehearse is for what a base knows: name one with --base")
        if self.freeze_encoder and not self.has_base:
            raise CaptionerError(
                "--freeze-encoder keeps what a base has learned: name one with --base"
            )
        if self.has_base and self._without_base:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in self._without_base)
            raise CaptionerError(
                f"a base brings its own CNN and its own shape: leave out {flags}, or --base"
            )
        _check_cnn(self)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of the labels."""
        return tuple(one.path if isinstance(one, Source) else one for one in self.labels)

    @property
    def shares(self) -> tuple[float, ...] | None:
        """Of the labels, 1 together; None: they have none."""
        found = [one.share for one in self.labels if isinstance(one, Source)]
        return tuple(share / sum(found) for share in found) if found else None

    @property
    def has_base(self) -> bool:
        """Whether a trained model is gone on from."""
        if self.base is None:
            return not self._without_base
        return self.base != NO_BASE

    @property
    def shape(self) -> dict:
        """Fields of `ModelConfig` that were chosen."""
        return {name: value for name, value in self._without_base.items() if name in SHAPE}

    @property
    def _without_base(self) -> dict:
        """What was chosen and goes without a base only."""
        chosen = {name: getattr(self, name) for name in ("backbone", "cnn", "input_size", *SHAPE)}
        return {name: value for name, value in chosen.items() if value is not None}


@dataclass(frozen=True)
class LabelTraining:
    """A training of a model that labels moments.

    Attributes:
        labels: label files or folders, see `training.moments.labels.read_moments`.
        output: the model folder to write.
        videos: the folder of the videos; None: that of the labels.
        label_fps: frames a second that labels count in; None: each video's own.
        work: where features and the state are kept; None: `work` in `output`.
        backbone: what turns frames into features, see `captioner.cnn.load_backbone`.
        cnn: the output of `captioner distill` that replaces the default CNN.
        input_size: height and width at which the bundled CNN sees frames, pixels.
        fps: moments in a second.
        encoder: as the next four, a field of `captioner.config.LabelConfig`.
        encoder_layers: see there.
        units: see there.
        bidirectional: see there.
        multi_label: see there.
        epochs: passes over the videos, at most.
        lanes: windows side by side, each of another video.
        window: moments that a gradient flows back through.
        learning_rate: at its peak.
        smoothing: weight of the smoothing loss.
        class_weights: `none`, or `balanced`: a label counts the more the rarer it is.
        patience: epochs without a better validation after which to stop; 0: never.
        precision: a Keras dtype policy.
        seed: of weights, order and dropout.

    Raises:
        CaptionerError: options that exclude one another.
    """

    labels: tuple[Path, ...]
    output: Path
    videos: Path | None = None
    label_fps: float | None = None
    work: Path | None = None
    backbone: str = "bundled"
    cnn: Path | None = None
    input_size: int | None = None
    fps: float = 2.0
    encoder: str = "lstm"
    encoder_layers: int = 1
    units: int = 128
    bidirectional: bool = False
    multi_label: bool = False
    epochs: int = 40
    lanes: int = 8
    window: int = 64
    learning_rate: float = 1e-3
    smoothing: float = 0.0
    class_weights: str = "none"
    patience: int = 10
    precision: str = "float32"
    seed: int = 1

    def __post_init__(self):
        _check_cnn(self)


def _check_cnn(options):
    own = options.cnn is not None or options.input_size is not None
    if options.backbone not in (None, "bundled") and own:
        raise CaptionerError("--cnn and --input-size go with --backbone bundled only")
