"""Label files -> one folder of arrays: encoded pictures, token ids, and what belongs together."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from captioner.errors import DatasetError
from captioner.vocabulary import SPECIAL_TOKENS, Vocabulary, style_token, tokenize

from ..metrics import MAX_N, CiderD

SIZE = 224  # pixels; pictures are kept no larger than any CNN here sees them
WEBP_QUALITY = 76
LONGEST = 20  # tokens of a sentence that are learned, END included
PART_BYTES = 48 << 20
ARRAYS, VOCABULARY = "items.npz", "vocabulary.txt"


@dataclass(frozen=True)
class Items:
    """Pictures and videos with their sentences.

    Attributes:
        vocabulary: the words, and a token for each style, such as `<video>`.
        is_video: `(num_items,)` bool.
        is_val: `(num_items,)` bool.
        num_frames: `(num_items,)`; the frames of all items follow one another.
        token_ids: `(num_sentences, LONGEST)`, END last, then PAD.
        start_ids: `(num_sentences,)`, the token of a sentence's style.
        owner: `(num_sentences,)`, number of its item, ascending; -1 for those of none.
        weights: `(num_sentences,)`, how much the others of its item agree with it: their mean
            CIDEr-D.
        encoded: a WebP or JPEG file a frame.
    """

    vocabulary: Vocabulary
    is_video: np.ndarray
    is_val: np.ndarray
    num_frames: np.ndarray
    token_ids: np.ndarray
    start_ids: np.ndarray
    owner: np.ndarray
    weights: np.ndarray
    encoded: list[bytes]

    @classmethod
    def load(cls, folder: Path) -> "Items":
        """Reads what `pack` wrote."""
        with np.load(folder / ARRAYS) as arrays:
            arrays = dict(arrays)
        blob = b"".join(path.read_bytes() for path in sorted(folder.glob("part-*.bin")))
        ends = np.cumsum(arrays.pop("sizes"))
        starts = np.concatenate([[0], ends[:-1]])
        encoded = [blob[a:b] for a, b in zip(starts, ends, strict=True)]
        return cls(Vocabulary.load(folder / VOCABULARY), **arrays, encoded=encoded)

    def select(self, keep: np.ndarray) -> "Items":
        """Only the items `keep`, their sentences, and those of no item."""
        place = np.full(len(self.num_frames), -1)
        place[keep] = np.arange(len(keep))
        first = np.cumsum(self.num_frames) - self.num_frames
        frames = [f for i in keep for f in range(first[i], first[i] + self.num_frames[i])]
        said = (self.owner < 0) | (place[self.owner] >= 0)
        owner = np.where(self.owner < 0, -1, place[self.owner])[said]
        order = np.argsort(owner, kind="stable")
        return Items(
            self.vocabulary,
            *(x[keep] for x in (self.is_video, self.is_val, self.num_frames)),
            *(x[said][order] for x in (self.token_ids, self.start_ids)),
            owner[order],
            self.weights[said][order],
            [self.encoded[f] for f in frames],
        )


def pack(
    sources: list[tuple[str, Path]],
    output: Path,
    min_count: int = 5,
    words: Vocabulary | None = None,
) -> None:
    """Writes what `Items.load` reads.

    Args:
        sources: the style of sentences, and where they are: labels of pictures and of clips as
            frames, or a text of sentences without a picture, one a line.
        output: a folder.
        min_count: words that are said less often are not learned.
        words: the words that are learned instead.

    Raises:
        DatasetError: labels cannot be read, or name what is no picture.
    """
    from ..data.manifest import read_labels  # reads videos, which the other stages need not

    output.mkdir(parents=True, exist_ok=True)
    items, alone = [], []
    for style, path in sources:
        if path.suffix == ".txt":
            lines = path.read_text(encoding="utf-8").splitlines()
            alone += [(style, line) for line in lines if tokenize(line)]
        else:
            items += [(style, clip) for clip in read_labels(path)]
    learned = [caption for _, clip in items if clip.split != "val" for caption in clip.captions]
    words = words or Vocabulary.build(learned, min_count)
    styles = dict.fromkeys(style for style, _ in (*items, *alone))
    special = len(SPECIAL_TOKENS)
    tokens = [
        *SPECIAL_TOKENS,
        *map(style_token, styles),
        *(word for word in words.tokens[special:] if word[0] != "<"),
    ]
    vocabulary = Vocabulary(tokens)
    ids_of = {token: i for i, token in enumerate(vocabulary.tokens)}

    sentences = [(-1, style, text) for style, text in alone]
    for number, (style, clip) in enumerate(items):
        sentences += [(number, style, text) for text in dict.fromkeys(clip.captions)]
    token_ids = np.zeros((len(sentences), LONGEST), np.int16)
    for row, (_, _, text) in zip(token_ids, sentences, strict=True):
        ids = vocabulary.encode(text)[:LONGEST]
        row[: len(ids)] = ids

    paths = [path for _, clip in items for path in clip.files]
    with ThreadPoolExecutor() as pool:
        encoded = list(pool.map(_encode, paths))
    parts, size = [[]], 0
    for blob in encoded:
        if size + len(blob) > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(blob)
        size += len(blob)
    for number, part in enumerate(parts):
        (output / f"part-{number:02}.bin").write_bytes(b"".join(part))
    np.savez_compressed(
        output / ARRAYS,
        is_video=np.array([bool(clip.frames) for _, clip in items]),
        is_val=np.array([clip.split == "val" for _, clip in items]),
        num_frames=np.array([len(clip.files) for _, clip in items], np.int16),
        token_ids=token_ids,
        start_ids=np.array([ids_of[style_token(style)] for _, style, _ in sentences], np.int16),
        owner=np.array([owner for owner, *_ in sentences], np.int32),
        weights=agreement(sentences),
        sizes=np.array([len(blob) for blob in encoded], np.int32),
    )
    vocabulary.save(output / VOCABULARY)
    print(
        f"{len(items)} items, {len(encoded)} frames, {len(sentences)} sentences "
        f"({len(alone)} of none), {len(vocabulary)} tokens, styles {list(styles)}"
    )


def agreement(sentences) -> np.ndarray:
    """How much the others of its item agree with each sentence: their mean CIDEr-D, 0 to 10.

    Args:
        sentences: `(owner, style, text)` each; an owner below 0 has nothing to agree with.
    """
    groups: dict[int, list[int]] = {}
    for place, (owner, _, _) in enumerate(sentences):
        if owner >= 0:
            groups.setdefault(owner, []).append(place)
    words = [tokenize(text) for _, _, text in sentences]
    scorer = CiderD([[words[place] for place in group] for group in groups.values()])
    weights = np.zeros(len(sentences), np.float32)
    for number, group in enumerate(groups.values()):
        if len(group) > 1:
            found = scorer.score([words[place] for place in group], [number] * len(group))
            own = [10 * min(len(words[place]), MAX_N) / MAX_N for place in group]
            weights[group] = (found * len(group) - own) / (len(group) - 1)
    return np.maximum(weights, 0)


def _encode(path):
    content = path.read_bytes()
    if path.suffix == ".webp":
        return content
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f"{path}: is no picture; name pictures, or clips as frames")
    side = min(SIZE, *image.shape[:2])
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])[1].tobytes()
