"""How a caption model is taught from features in memory: options."""

from dataclasses import dataclass

MOST_PER_ITEM = 5  # sentences of an item in a batch


@dataclass(frozen=True)
class Recipe:
    """What is learned from, and how hard.

    Attributes:
        batch_size: items in a batch.
        per_item: how many of its sentences each is learned with there, at most `MOST_PER_ITEM`.
        learning_rate: at its peak; see `schedule`.
        weight_decay: of AdamW.
        dropout: share of values dropped.
        label_smoothing: as in `training.objectives.caption_loss`.
        video_share: of all batches.
        text_share: of all batches; their sentences have no picture.
        titles: share of a batch of pictures that is of the style `title`.
        styles: whether a sentence begins with the token of its style.
        weigh: whether sentences that their siblings agree with are drawn more often.
        teacher_weight: share of the loss that is learned from teachers, if there are any.
        units: as in `ModelConfig`, and likewise
        embedding_dim: the width of a word.
    """

    batch_size: int = 64
    per_item: int = MOST_PER_ITEM
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.3
    label_smoothing: float = 0.1
    video_share: float = 0.45
    text_share: float = 0.0
    titles: float = 0.08
    styles: bool = True
    weigh: bool = False
    teacher_weight: float = 0.7
    units: int = 320
    embedding_dim: int = 256
