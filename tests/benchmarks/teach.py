"""What corrections teach the default model, and what they harm: `python -m tests.benchmarks.teach`.

- *Own style*: 5, 10 and 20 clips corrected to the sentences of `../shared/data/clips.jsonl`, 25
  others held out; three draws each. Before and after stand CIDEr-D on the clips held out and, for
  harm, on 200 pictures and 200 videos of the split val of `images.jsonl` and `msrvtt.jsonl`.
- *Own names*: ten pictures of dogs, "a dog" made "Rex": the share of 40 other pictures of dogs,
  and of 200 without any, of which Rex is said.
- *Own footage*: what `tests.benchmarks.retrain` tells (`--no-footage`: left out).

Where those data are not, the clips are of the small world of `tests.benchmarks.retrain`, the name
is that of its red ball, and nothing old is looked at.

The trainings are those of `captioner train` without its judging; the features of all clips are
computed once. The last line is JSON: `heldout_cider_before_N` and `_after_N`, the mean of the
draws; `heldout_gain_interval_20`, bounds that hold 95 % of that gain over clips and draws drawn
again; `flickr8k_val_` and `msrvtt_val_` likewise, the worst draw as `_lowest_N`; `rex_on_dogs`,
`rex_elsewhere`, `rex_flickr8k_val_after`; `footage_` and what `retrain` tells; `seconds` of all.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import keras
import numpy as np

from captioner.vocabulary import tokenize
from training.data.manifest import LabelledClip, load_labels, write_labels
from training.data.records import write_records
from training.metrics import CiderD
from training.options import CaptionTraining
from training.recipe import prepare
from training.teaching import Teaching, features_of

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
    """Teaches, and asks what is said of clips whose features are computed once."""

    def __init__(self, folder: Path, base: str):
        self._folder, self._base = folder, base
        self._features: dict[str, list[np.ndarray]] = {}

    def teach(self, clips: list[LabelledClip], name: str) -> Teaching:
        """Trains by the recipe of `captioner train`."""
        labels = self._folder / f"{name}.jsonl"
        write_labels([replace(clip, split="train") for clip in clips], labels)
        options = CaptionTraining((labels,), self._folder / "model", base=self._base)
        started = perf_counter()
        keras.utils.set_random_seed(options.seed)
        teaching = prepare(options, [load_labels(labels).clips], [])
        teaching.fit(part=f"-{name}")
        print(f"{name}: {perf_counter() - started:.0f} s", file=sys.stderr)
        return teaching

    def look(self, teaching: Teaching, name: str, clips: list[LabelledClip]):
        """Computes the features of clips, if that was not done before."""
        if name not in self._features:
            store, base = self._folder / "features", teaching.base.folder
            records = write_records(clips, base.load_backbone(), base.sampling, store)
            if len(records.clips) < len(clips):
                raise SystemExit(f"{name}: some clips cannot be read")
            self._features[name] = features_of(records, base.vocabulary)
        return self._features[name]


def ciders(sentences, clips) -> np.ndarray:
    """CIDEr-D of each clip."""
    references = [[tokenize(one) for one in clip.captions] for clip in clips]
    return CiderD(references).score([tokenize(one) for one in sentences])


def teach_style(bench: Bench, material: Material) -> dict:
    """Own style, and what it does to the old data."""
    found, gains = {}, []
    for count in COUNTS:
        rows: dict[str, list[tuple[float, float]]] = {}
        for draw in range(NUM_DRAWS):
            order = np.random.default_rng(7 + draw).permutation(len(material.style))
            teaching = bench.teach([material.style[i] for i in order[:count]], f"{draw}-{count}")
            style = bench.look(teaching, "style", material.style)
            held = order[max(COUNTS) :]
            before = teaching.base.caption([style[i] for i in held])
            after = teaching.caption([style[i] for i in held])
            clips = [material.style[i] for i in held]
            pair = ciders(before, clips), ciders(after, clips)
            if count == max(COUNTS):
                gains.append(pair[1] - pair[0])
            rows.setdefault("heldout_cider", []).append(tuple(one.mean() for one in pair))
            for name, clips in material.old.items():
                features = bench.look(teaching, name, clips)
                if f"{name}_before" not in found:
                    said = teaching.base.caption(features)
                    found[f"{name}_before"] = ciders(said, clips).mean()
                after = ciders(teaching.caption(features), clips).mean()
                rows.setdefault(name, []).append((found[f"{name}_before"], after))
            told = ((k, [f"{x:.3f}" for x in v[-1]]) for k, v in rows.items())
            print(*(f"{k} {' -> '.join(v)}" for k, v in told), sep=", ", file=sys.stderr)
        for name, several in rows.items():
            before, after = np.mean(several, axis=0)
            found |= {f"{name}_before_{count}": before, f"{name}_after_{count}": after}
            if name in material.old:
                found[f"{name}_lowest_{count}"] = min(after for _, after in several)
    rng = np.random.default_rng(1)
    draws = [np.mean([rng.choice(gain, len(gain)).mean() for gain in gains]) for _ in range(4000)]
    found["heldout_gain_interval_20"] = np.quantile(draws, (0.025, 0.975)).tolist()
    return {k: v for k, v in found.items() if not k.endswith("_before")}


def teach_name(bench: Bench, material: Material) -> dict:
    """Own names."""
    teaching = bench.teach(material.named, "name")
    found = {}
    for name, clips in (("rex_on_dogs", material.shown), ("rex_elsewhere", material.elsewhere)):
        said = teaching.caption(bench.look(teaching, name, clips))
        found[name] = float(np.mean([NAME.lower() in tokenize(one) for one in said]))
    for name, clips in material.old.items():
        said = teaching.caption(bench.look(teaching, name, clips))
        found[f"rex_{name}_after"] = ciders(said, clips).mean()
    return found


def main():
    """Teaches, looks, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="default")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the shared data")
    parser.add_argument("--keep", type=Path, help="folder to work in; default: a temporary one")
    parser.add_argument("--no-footage", action="store_true", help="without own footage")
    args = parser.parse_args()
    started, result = perf_counter(), {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        shared = (args.data / "clips.jsonl").exists()
        material = shared_material(args.data) if shared else drawn_material(folder / "world")
        bench = Bench(folder, args.base)
        result |= teach_style(bench, material) | teach_name(bench, material)
    if not args.no_footage:
        command = [sys.executable, "-m", "tests.benchmarks.retrain", "--base", args.base]
        if shared:
            command += ["--old-labels", args.data / "images.jsonl"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        result |= {f"footage_{name}": value for name, value in found.items()}
    result["seconds"] = round(perf_counter() - started)
    rounded = {k: np.round(v, 4).tolist() for k, v in result.items()}
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
