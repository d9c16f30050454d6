"""Every choice a model or a caption depends on: frozen dataclasses, checked when made."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import isqrt

from .errors import CaptionerError

ENCODERS = ("lstm", "gru", "convolution")
ATTENTIONS = ("additive", "multiplicative", "multi-head")
NUM_HEADS = 4  # of multi-head attention
AUTO_STYLE = "auto"
ENGINES = ("auto", "lite", "keras")  # what runs a model: LiteRT programs, Keras, or what suits


def _expect(condition: bool, expectation: str, **received):
    if not condition:
        values = ", ".join(f"{name}={value!r}" for name, value in received.items())
        raise ValueError(f"expected {expectation}, received: {values}")


@dataclass(frozen=True)
class SamplingOptions:
    """How a clip becomes a sequence of frames.

    Attributes:
        num_frames: frames taken evenly over the clip; a shorter clip gives what it has.
    """

    num_frames: int = 8

    def __post_init__(self):
        _expect(self.num_frames >= 1, "num_frames >= 1", num_frames=self.num_frames)

    @classmethod
    def of(cls, given: "SamplingOptions | int") -> "SamplingOptions":
        """These options; a number stands for so many frames, and all else by default."""
        return cls(num_frames=given) if isinstance(given, int) else given


@dataclass(frozen=True)
class CnnConfig:
    """The shape of the bundled CNN, a plain residual network of 3x3 convolutions.

    Attributes:
        input_size: height and width of its input, pixels.
        widths: channels of the stem and of each stage; each of them halves the resolution.
        depths: residual blocks of each stage.
        feature_dim: size of one feature vector; there is one for each cell of the last map.
    """

    input_size: int = 128
    widths: tuple[int, ...] = (32, 64, 128, 224, 256)
    depths: tuple[int, ...] = (1, 2, 2, 1)
    feature_dim: int = 512

    def __post_init__(self):
        _expect(
            len(self.widths) == len(self.depths) + 1,
            "one width more than depths",
            widths=self.widths,
            depths=self.depths,
        )
        _expect(
            self.input_size > 0 and self.input_size % 2 ** len(self.widths) == 0,
            f"input_size to be a multiple of {2 ** len(self.widths)}",
            input_size=self.input_size,
        )

    @classmethod
    def from_dict(cls, values: dict) -> "CnnConfig":
        """The reverse of `dataclasses.asdict` after a way through JSON."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    @property
    def grid_size(self) -> int:
        """Height and width of the last map, regions."""
        return self.input_size // 2 ** len(self.widths)


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a `CaptionModel`.

    Attributes:
        vocab_size: tokens the model knows, the four special ones included.
        feature_dim: size of one feature vector of the backbone.
        num_regions: feature vectors a frame.
        units: width of the memory, the LSTM states and the attention.
        embedding_dim: width of the word embedding, shared with the output layer.
        encoder: what reads the frames: `lstm`, `gru`, or `convolution`, a temporal
            convolutional network.
        encoder_layers: how many of them lie on one another; of convolutions, each looks twice
            as far as the one before.
        bidirectional: whether a frame's memory knows what comes after it too.
        motion_dim: width of what compares each frame with its neighbours, region by region of
            a square of them; 0: nothing does, as in models of before.
        attention: `additive`, `multiplicative` or `multi-head`.
        dropout: share of values dropped while training, 0 <= dropout < 1.
        styles: kinds of sentences, such as `video` and `photo`, that the model was taught apart.
            The token of each, after the special ones, takes the place of START.
    """

    vocab_size: int
    feature_dim: int
    num_regions: int = 1
    units: int = 320
    embedding_dim: int = 256
    encoder: str = "lstm"
    encoder_layers: int = 1
    bidirectional: bool = False
    motion_dim: int = 0
    attention: str = "multiplicative"
    dropout: float = 0.3
    styles: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "styles", tuple(self.styles))  # a list, where JSON was read
        for name in (
            "vocab_size",
            "feature_dim",
            "num_regions",
            "units",
            "embedding_dim",
            "encoder_layers",
        ):
            value = getattr(self, name)
            _expect(value >= 1, f"{name} >= 1", **{name: value})
        for name, choices in (("encoder", ENCODERS), ("attention", ATTENTIONS)):
            value = getattr(self, name)
            _expect(value in choices, f"{name} to be one of {choices}", **{name: value})
        _expect(self.units % NUM_HEADS == 0, f"units % {NUM_HEADS} == 0", units=self.units)
        _expect(
            self.motion_dim == 0
            or (self.motion_dim > 0 and isqrt(self.num_regions) ** 2 == self.num_regions),
            "motion_dim >= 0, and a square of regions where it is not 0",
            motion_dim=self.motion_dim,
            num_regions=self.num_regions,
        )
        _expect(0 <= self.dropout < 1, "0 <= dropout < 1", dropout=self.dropout)


@dataclass(frozen=True)
class LabelConfig:
    """The shape of a `LabelModel`.

    Attributes:
        num_labels: labels the model knows.
        feature_dim: size of one feature vector of the backbone.
        num_regions: feature vectors a frame.
        region_dim: what is kept of each region, so that where things are is not lost.
        units: width of the encoder.
        encoder: what reads the moments: `lstm`, `gru`, or `convolution`, a temporal
            convolutional network.
        encoder_layers: how many of them lie on one another; of convolutions, each looks twice
            as far as the one before.
        bidirectional: whether a label depends on what comes after its moment too; otherwise
            the model is causal, as for live use.
        multi_label: whether several labels may hold at once (sigmoid), or always one (softmax).
        time_scale: moments over which the units of an LSTM or GRU remember at first, each
            another time up to this.
        dropout: share of values dropped while training, 0 <= dropout < 1.
    """

    num_labels: int
    feature_dim: int
    num_regions: int = 1
    region_dim: int = 32
    units: int = 128
    encoder: str = "lstm"
    encoder_layers: int = 1
    bidirectional: bool = False
    multi_label: bool = False
    time_scale: int = 16
    dropout: float = 0.2

    def __post_init__(self):
        for name in (
            "num_labels",
            "feature_dim",
            "num_regions",
            "region_dim",
            "units",
            "encoder_layers",
            "time_scale",
        ):
            value = getattr(self, name)
            _expect(value >= 1, f"{name} >= 1", **{name: value})
        _expect(self.encoder in ENCODERS, f"encoder to be one of {ENCODERS}", encoder=self.encoder)
        _expect(
            not self.bidirectional or self.units % 2 == 0,
            "an even number of units when bidirectional",
            units=self.units,
        )
        _expect(0 <= self.dropout < 1, "0 <= dropout < 1", dropout=self.dropout)


@dataclass(frozen=True)
class LabellingOptions:
    """How a video becomes labelled segments.

    Attributes:
        fps: moments looked at in a second.
        window: moments looked at together.
        context: moments before and after a window that a bidirectional model sees with it;
            a causal one carries its state instead.
        threshold: a label holds where it is at least this probable; with one label at a time
            a moment whose likeliest label is less probable has none.
        min_duration: seconds; shorter segments are dropped, or, with one label at a time,
            fall to the segment before them.
    """

    fps: float = 2.0
    window: int = 64
    context: int = 32
    threshold: float = 0.0
    min_duration: float = 0.0

    def __post_init__(self):
        _expect(0 < self.fps <= 1000, "0 < fps <= 1000", fps=self.fps)
        _expect(self.window >= 1, "window >= 1", window=self.window)
        _expect(self.context >= 0, "context >= 0", context=self.context)
        _expect(0 <= self.threshold <= 1, "0 <= threshold <= 1", threshold=self.threshold)
        _expect(
            0 <= self.min_duration < float("inf"),
            "0 <= min_duration < inf",
            min_duration=self.min_duration,
        )


@dataclass(frozen=True)
class DecodingOptions:
    """How a sentence is searched for.

    With a `temperature` above 0 sentences are drawn at random; otherwise the best ones are
    searched for: by greedy decoding with a `beam_size` of 1, else by beam search.

    Attributes:
        beam_size: hypotheses kept at each step; 1 is greedy decoding.
        length_penalty: alpha in `log_prob / ((5 + n) / 6) ** alpha`, n counting the words
            and END (Wu et al. 2016, "Google's Neural Machine Translation System").
        num_captions: candidates returned for a clip, best first; at most `beam_size`,
            unless they are drawn at random.
        min_length: fewest words of a sentence, END not counted.
        max_length: most words of a sentence, END not counted.
        coverage_penalty: beta in `beta * sum(log(min(attention received, 1)))` over the
            memory, added to the score (Wu et al. 2016); 0 is off.
        no_repeat_ngram_size: no run of this many words appears twice in a sentence; 0 is off.
        temperature: 0 searches; above 0 draws from `softmax(logits / temperature)`.
        top_k: draws among this many likeliest words only; 0 is all.
        top_p: draws among the likeliest words that together reach this probability only
            (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"); 1 is all.
        start_with: the beginning of every sentence.
        avoid: words that no sentence has.
        mention: words that every sentence has. A beam needs a place more than there are of them.
        style: which kind of sentence, one of the model's styles; `auto`: `video`, and `photo`
            for a still picture. Models without styles know `auto` only.
    """

    beam_size: int = 5
    length_penalty: float = 1.0
    num_captions: int = 1
    min_length: int = 1
    max_length: int = 30
    coverage_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    start_with: str = ""
    avoid: tuple[str, ...] = ()
    mention: tuple[str, ...] = ()
    style: str = AUTO_STYLE

    def __post_init__(self):
        for name in ("avoid", "mention"):  # lists, where JSON was read
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _expect(self.beam_size >= 1, "beam_size >= 1", beam_size=self.beam_size)
        _expect(
            0 <= self.min_length <= self.max_length and self.max_length >= 1,
            "0 <= min_length <= max_length and max_length >= 1",
            min_length=self.min_length,
            max_length=self.max_length,
        )
        for name in (
            "length_penalty",
            "coverage_penalty",
            "no_repeat_ngram_size",
            "temperature",
            "top_k",
        ):
            value = getattr(self, name)
            _expect(0 <= value < float("inf"), f"0 <= {name} < inf", **{name: value})
        both = set(self.avoid) & set(self.mention)
        _expect(not both, "no word to avoid among those to mention", words=sorted(both))
        _expect(0 < self.top_p <= 1, "0 < top_p <= 1", top_p=self.top_p)
        _expect(self.num_captions >= 1, "num_captions >= 1", num_captions=self.num_captions)
        if self.temperature == 0:
            _expect(
                self.beam_size == 1 or len(self.mention) < self.beam_size,
                "fewer words to mention than beam_size",
                mention=self.mention,
                beam_size=self.beam_size,
            )
            _expect(
                self.num_captions <= self.beam_size,
                "num_captions <= beam_size when temperature is 0",
                num_captions=self.num_captions,
                beam_size=self.beam_size,
            )
            _expect(
                self.top_k == 0 and self.top_p == 1,
                "top_k and top_p only with a temperature above 0",
                top_k=self.top_k,
                top_p=self.top_p,
                temperature=self.temperature,
            )

    @property
    def num_hypotheses(self) -> int:
        """Rows decoded side by side for each clip: what memory is tiled by."""
        return self.num_captions if self.temperature > 0 else self.beam_size


def overridden(options, given: Mapping[str, object]):
    """Options with those of their fields that are given; a field that is None is not.

    Raises:
        CaptionerError: a value is out of its range.
    """
    names = [field.name for field in fields(options) if given.get(field.name) is not None]
    try:
        return replace(options, **{name: given[name] for name in names})
    except ValueError as err:
        raise CaptionerError(str(err)) from err
