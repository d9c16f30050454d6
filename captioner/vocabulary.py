"""Words <-> token ids."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .config import AUTO_STYLE, DecodingOptions

PAD_ID, START_ID, END_ID, UNKNOWN_ID = range(4)
SPECIAL_TOKENS = ("<pad>", "<start>", "<end>", "<unknown>")


def style_token(style: str) -> str:
    """The token that sentences of a style begin with; no word has angle brackets."""
    return f"<{style}>"


def start_id(styles: Sequence[str], style: str, num_frames: int) -> int:
    """The token before the first word of a clip's sentences; `CaptionModel.start_ids` of one clip.

    Args:
        styles: of the model.
        style: as in `DecodingOptions`, one of these or `auto`.
        num_frames: of the clip.
    """
    if style == AUTO_STYLE:
        style = "photo" if num_frames == 1 else "video"
        if style not in styles:
            return START_ID
    return len(SPECIAL_TOKENS) + list(styles).index(style)


# Vowel signs, accents and joiners, which are no letters to Python but no end of a word either.
_MARKS = "".join(c for c in map(chr, range(0x300, 0xFE00)) if unicodedata.category(c)[0] == "M")
_MARKS += "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
# Thai, Lao, Burmese, Khmer, kana and Han are written without spaces: a character is a word.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf"
UNSPACED += "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CHARACTER = rf"(?=[{UNSPACED}])\w[{_MARKS}]*"
_LETTER = rf"(?:[^\W{UNSPACED}][{_MARKS}]*)"

# Such a character, a word, a hyphenated word, or what follows an apostrophe ("man's" and "man 's"
# are both "man", "'s"), which `join` puts to the word before it.
_TOKEN = re.compile(rf"{_CHARACTER}|(?<=\w)'{_LETTER}+|'s\b|{_LETTER}+(?:-{_LETTER}+)*")
_GAP = re.compile(rf"(?<=[{UNSPACED}]) (?=[{UNSPACED}])")


def tokenize(sentence: str) -> list[str]:
    """Splits a sentence into lower-case words; punctuation and emoji are dropped.

    Of scripts written without spaces every character is a word.
    """
    sentence = sentence.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return _TOKEN.findall(unicodedata.normalize("NFC", sentence).lower())


def join(words: Iterable[str]) -> str:
    """Puts words together, as `tokenize` would split them."""
    return _GAP.sub("", " ".join(words).replace(" '", "'"))


def _single(text: str) -> str:
    words = tokenize(text)
    if len(words) != 1:
        raise ValueError(f"expected one word at a time to avoid or mention, received: {text!r}")
    return words[0]


class Constraints(NamedTuple):
    """The token ids of what `DecodingOptions` demand of a sentence, as `decoding.decode` takes it.

    Attributes:
        prefix_ids: the beginning of every sentence.
        forbidden_ids: words that no sentence has.
        required_ids: words that every sentence has.
    """

    prefix_ids: tuple[int, ...] = ()
    forbidden_ids: tuple[int, ...] = ()
    required_ids: tuple[int, ...] = ()


class Vocabulary:
    """The words a model knows, in the order of its token ids.

    The first four tokens are special: padding, start and end of a sentence, unknown word. Those of
    the styles of a model, such as `<video>`, follow.
    """

    def __init__(self, tokens: Sequence[str]):
        """Args:
        tokens: every token, the special ones first, in the order of the ids.

        Raises:
            ValueError: the special tokens are not in front, or a token is doubled.
        """
        self.tokens = tuple(tokens)
        self._ids = {token: token_id for token_id, token in enumerate(self.tokens)}
        if self.tokens[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS:
            raise ValueError(f"expected {SPECIAL_TOKENS} in front, received: {self.tokens[:4]}")
        if len(self._ids) != len(self.tokens):
            doubled = [token for token, count in Counter(self.tokens).items() if count > 1]
            raise ValueError(f"expected distinct tokens, received twice: {doubled[:5]}")

    @classmethod
    def build(cls, sentences: Iterable[str], min_count: int = 1) -> "Vocabulary":
        """The words that occur at least `min_count` times, the most frequent first."""
        counts = Counter(word for sentence in sentences for word in tokenize(sentence))
        words = sorted(
            (word for word, count in counts.items() if count >= min_count),
            key=lambda word: (-counts[word], word),
        )
        return cls(SPECIAL_TOKENS + tuple(words))

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def encode(self, sentence: str) -> list[int]:
        """Token ids of a sentence, END last; words out of the vocabulary are UNKNOWN."""
        return [self._ids.get(word, UNKNOWN_ID) for word in tokenize(sentence)] + [END_ID]

    def constraints(self, options: DecodingOptions) -> Constraints:
        """The token ids of `start_with`, `avoid` and `mention`.

        Raises:
            ValueError: a word is not in the vocabulary, or is several; or there are more of them
                than a sentence may have.
        """
        prefix = self._known(tokenize(options.start_with), "start with")
        forbidden, required = (
            self._known(map(_single, words), verb)
            for words, verb in ((options.avoid, "avoid"), (options.mention, "mention"))
        )
        num_words = len(set(required) - set(prefix)) + len(prefix)
        if num_words > options.max_length:
            raise ValueError(
                f"expected {options.max_length} words at most to start with and to mention, "
                f"received: {num_words}"
            )
        return Constraints(prefix, forbidden, required)

    def _known(self, words: Iterable[str], verb: str) -> tuple[int, ...]:
        words = list(words)
        if unknown := [word for word in words if word not in self]:
            raise ValueError(
                f"its vocabulary of {len(self)} words lacks what to {verb}: {', '.join(unknown)}; "
                "choose words of its vocabulary.txt"
            )
        return tuple(self._ids[word] for word in words)

    def words(self, token_ids: Iterable[int]) -> list[str]:
        """The words up to END, padding left out."""
        words = []
        for token_id in token_ids:
            if token_id == END_ID:
                break
            if token_id not in (PAD_ID, START_ID):
                words.append(self.tokens[token_id])
        return words

    def decode(self, token_ids: Iterable[int]) -> str:
        """The words up to END as one string: `"a man's hat"`."""
        return join(self.words(token_ids))

    def save(self, path: str | Path):
        """Writes a token a line, UTF-8."""
        Path(path).write_text("\n".join(self.tokens) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not a vocabulary.
        """
        return cls(Path(path).read_text(encoding="utf-8").splitlines())
