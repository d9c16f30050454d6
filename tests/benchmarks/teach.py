"""What corrections teach the default model, and what they harm: `python -m tests.benchmarks.teach`.

- *Own style*: 5, 10 and 20 clips corrected to the sentences of `../shared/data/clips.jsonl`, 25
  others held out; three draws each, the fewer within the more. CIDEr-D on the clips held out and,
  for harm, on 200 pictures and 200 videos of the split val of `images.jsonl` and `msrvtt.jsonl`.
- *Own names*: ten pictures of dogs, "a dog" made "Rex": the share of 40 other pictures of dogs,
  and of 200 without any, of which Rex is said.

Where those data are not, the clips are of the small world of `tests.benchmarks.retrain`, the name
is that of its red ball, and nothing old is looked at.

All is taught as by `captioner train`, with its judging: a model that is no better is not written,
and what a user has *after* that is the base. `fitted` is the model that was judged. Features are
computed once.

The last line is JSON, means of the draws: `heldout_cider_before_N`, `_after_N`, `_fitted_N`, and
`_interval_N`, bounds that hold 95 % of the gain over clips drawn again; `flickr8k_val_` and
`msrvtt_val_` likewise, the worst draw as `_lowest_N`; `written_N`, the share of the draws whose
model is written; `rex_on_dogs`, `rex_elsewhere`, `rex_flickr8k_val_fitted`; `seconds` of all.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import keras
import numpy as np

from captioner.model_folder import ModelFolder
from captioner.vocabulary import tokenize
from training.comparison import compare
from training.data.manifest import LabelledClip, load_labels, write_labels
from training.data.records import write_records
from training.metrics import CiderD
from training.options import CaptionTraining
from training.recipe import prepare
from training.teaching import features_of
from training.transfer import Base

from .retrain import draw_world

SHARED = Path(__file__).resolve().parents[2].parent / "shared/data"
COUNTS, NUM_DRAWS, NUM_STYLE = (5, 10, 20), 3, 45
NUM_OLD, NUM_NAMED, NUM_SHOWN = 200, 10, 40
NAME = "Rex"


@dataclass(frozen=True)
class Material:
    """Clips to teach and to look at.

    Attributes:
        style: with sentences in the style to learn.
        old: by name, clips like those that the base learned from.
        named: with sentences that have the name.
        shown: others of what has the name.
        elsewhere: of something else.
    """

    style: list[LabelledClip]
    old: dict[str, list[LabelledClip]]
    named: list[LabelledClip]
    shown: list[LabelledClip]
    elsewhere: list[LabelledClip]


def shared_material(folder: Path) -> Material:
    """That of the shared data."""
    pictures, videos = (
        [clip for clip in load_labels(folder / name).clips if clip.split == "val"]
        for name in ("images.jsonl", "msrvtt.jsonl")
    )
    dogs = [
        clip
        for clip in pictures
        if sum("dog" in tokenize(one) for one in clip.captions) >= 3
        and any(re.search(r"\ba dog\b", one, re.I) for one in clip.captions)
    ]
    words = {"dog", "dogs", "puppy", "puppies"}
    others = [c for c in pictures if not words & {w for one in c.captions for w in tokenize(one)}]
    return Material(
        load_labels(folder / "clips.jsonl").clips[:NUM_STYLE],
        {"flickr8k_val": pictures[:NUM_OLD], "msrvtt_val": videos[:NUM_OLD]},
        [_renamed(clip, r"\ba dog\b") for clip in dogs[:NUM_NAMED]],
        dogs[NUM_NAMED:][:NUM_SHOWN],
        others[:NUM_OLD],
    )


def drawn_material(folder: Path) -> Material:
    """That of a small world."""
    clips = load_labels(draw_world(folder)).clips
    thing = re.compile("a red ball")
    having = [clip for clip in clips if thing.search(clip.captions[0])]
    named, shown = having[:NUM_NAMED], having[NUM_NAMED:][:NUM_SHOWN]
    others = [clip for clip in clips if not thing.search(clip.captions[0])]
    named = [_renamed(clip, thing.pattern) for clip in named]
    return Material(clips[:NUM_STYLE], {}, named, shown, others[:NUM_OLD])


def _renamed(clip: LabelledClip, thing: str) -> LabelledClip:
    """A clip with its first sentence of a thing, which has the name now."""
    sentence = next(one for one in clip.captions if re.search(thing, one, re.I))
    return replace(clip, captions=(re.sub(thing, NAME, sentence, count=1, flags=re.I),))


class Bench:
    """Teaches, and asks what is said of clips whose features are computed once.

    Attributes:
        before: what the base says of clips that were looked at, by a name for them.
    """

    def __init__(self, folder: Path, base: str):
        self.before: dict[str, list[str]] = {}
        self._folder, self._model = folder, folder / "model"
        self._base = Base(ModelFolder.open(base))
        self._features: dict[str, list[np.ndarray]] = {}

    def look(self, name: str, clips: Sequence[LabelledClip]):
        """Computes the features of clips."""
        base = self._base.folder
        store = self._model / "work/features"  # where a training looks for its own
        records = write_records(clips, base.load_backbone(), base.sampling, store)
        if len(records.clips) < len(clips):
            raise SystemExit(f"{name}: some clips cannot be read")
        self._features[name] = features_of(records, base.vocabulary)
        self.before[name] = self._base.caption(self._features[name])

    def teach(self, clips: Sequence[LabelledClip], name: str) -> tuple[dict[str, list[str]], bool]:
        """Teaches as `captioner train` does.

        Returns:
            What the new model says of the clips that were looked at, and whether it is written.
        """
        started = perf_counter()
        labels = self._folder / f"{name}.jsonl"
        write_labels([replace(clip, split="train") for clip in clips], labels)
        for state in (self._model / "work").glob("state*"):  # of the training before
            shutil.rmtree(state)
        options = CaptionTraining((labels,), self._model, base=self._base.folder.path)
        keras.utils.set_random_seed(options.seed)
        teaching = prepare(options, [load_labels(labels).clips], [], self._base)
        teaching.fit()
        judgement = compare(teaching)
        said = {name: teaching.caption(several) for name, several in self._features.items()}
        seconds = perf_counter() - started
        print(f"{name}, {seconds:.0f} s: {judgement.describe()}", file=sys.stderr)
        return said, judgement.is_better


def ciders(sentences: Sequence[str], clips: Sequence[LabelledClip]) -> np.ndarray:
    """CIDEr-D of each clip."""
    references = [[tokenize(one) for one in clip.captions] for clip in clips]
    return CiderD(references).score([tokenize(one) for one in sentences])


def teach_style(bench: Bench, material: Material, num_draws: int) -> dict:
    """Own style, and what it does to the old data."""
    rng, found = np.random.default_rng(1), {}
    looked = {"heldout_cider": material.style, **material.old}
    for name, clips in looked.items():
        bench.look(name, clips)
    for count in COUNTS:
        # Of each draw, by name: of each clip before, after, and by the model that was judged.
        draws, written = [], []
        for draw in range(num_draws):
            order = np.random.default_rng(7 + draw).permutation(len(material.style))
            taught = [material.style[i] for i in order[:count]]
            said, is_better = bench.teach(taught, f"{draw}-{count}")
            scores = {}
            for name, clips in looked.items():
                before, fitted = ciders(bench.before[name], clips), ciders(said[name], clips)
                three = np.stack([before, fitted if is_better else before, fitted])
                scores[name] = three[:, order[max(COUNTS) :]] if clips is material.style else three
            told = (f"{k} {' -> '.join(f'{x:.3f}' for x in v.mean(1))}" for k, v in scores.items())
            print(*told, sep=", ", file=sys.stderr)
            draws.append(scores)
            written.append(is_better)
        found[f"written_{count}"] = np.mean(written)
        for name in looked:
            several = [scores[name] for scores in draws]
            means = np.mean([one.mean(axis=1) for one in several], axis=0)
            for when, mean in zip(("before", "after", "fitted"), means, strict=True):
                found[f"{name}_{when}_{count}"] = mean
            gains = [after - before for before, after, _ in several]
            # The old clips are the same in all draws.
            gains = np.mean(gains, axis=0) if name in material.old else np.concatenate(gains)
            again = rng.choice(gains, (4000, len(gains))).mean(axis=1)
            found[f"{name}_interval_{count}"] = np.quantile(again, (0.025, 0.975))
            if name in material.old:
                found[f"{name}_lowest_{count}"] = min(after.mean() for _, after, _ in several)
    return found


def teach_name(bench: Bench, material: Material) -> dict:
    """Own names."""
    shown = {"rex_on_dogs": material.shown, "rex_elsewhere": material.elsewhere}
    for name, clips in shown.items():
        bench.look(name, clips)
    said, is_better = bench.teach(material.named, "name")
    found = {"rex_written": float(is_better)}
    for name in shown:
        found[name] = np.mean([NAME.lower() in tokenize(one) for one in said[name]])
    for name, clips in material.old.items():
        found[f"rex_{name}_fitted"] = ciders(said[name], clips).mean()
    return found


def main():
    """Teaches, looks, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="default")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the shared data")
    parser.add_argument("--keep", type=Path, help="folder to work in; default: a temporary one")
    parser.add_argument("--draws", type=int, default=NUM_DRAWS, help="of the clips to correct")
    args = parser.parse_args()
    started = perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        shared = (args.data / "clips.jsonl").exists()
        material = shared_material(args.data) if shared else drawn_material(folder / "world")
        bench = Bench(folder, args.base)
        result = teach_style(bench, material, args.draws) | teach_name(bench, material)
    result["seconds"] = round(perf_counter() - started)
    print(json.dumps({name: np.round(value, 4).tolist() for name, value in result.items()}))


if __name__ == "__main__":
    main()
