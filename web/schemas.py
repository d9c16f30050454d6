"""What goes over the API, as marshmallow schemas; the OpenAPI document is made of them.

Those of models stand beside their routes.
"""

from marshmallow import Schema, fields, validate

from .store.history import CHANGES
from .store.search import ORDERS
from .store.tags import LONGEST
from .store.videos import STATES


def text_field(description: str, **kwargs) -> fields.String:
    """A string, and what it says."""
    return fields.String(metadata={"description": description}, **kwargs)


def number_field(description: str, **kwargs) -> fields.Float:
    """A number, and what it says."""
    return fields.Float(metadata={"description": description}, **kwargs)


def _words(description):
    word = fields.String(validate=validate.Length(1, 40))
    return fields.List(word, validate=validate.Length(1, 8), metadata={"description": description})


def _count(description, low=0, high=2**53, **kwargs):
    return fields.Integer(
        validate=validate.Range(low, high),
        metadata={"description": description},
        **kwargs,
    )


_SECONDS = validate.Range(0, 10**7)
_SENTENCE = validate.And(
    validate.Length(1, 1000), validate.Regexp(r".*\S", error="Write a sentence.")
)


class Problem(Schema):
    """Why a request was not done."""

    code = text_field("One word for scripts", required=True)
    message = text_field("A sentence for people", required=True)
    offset = fields.Integer(metadata={"description": "How much of the video has arrived"})


class NewVideo(Schema):
    """A video about to arrive."""

    name = text_field("Its file name", required=True, validate=validate.Length(1, 1000))
    size = _count("Bytes", 1, required=True, strict=True)


class Sentence(Schema):
    """What is said of a video, or of a stretch of it."""

    position = fields.Integer(metadata={"description": "0 for all of it"})
    start = number_field("Seconds")
    end = number_field("Seconds")
    text = text_field("As it stands")
    original = text_field("What the model said")
    corrected = fields.Boolean(metadata={"description": "Whether a person changed it"})


class NewSentence(Schema):
    """A person's sentence."""

    text = text_field(
        "The sentence; null goes back to the model's",
        required=True,
        allow_none=True,
        validate=_SENTENCE,
    )
    was = number_field("When its stretch begins; refused if it no longer does", validate=_SECONDS)


class NewStretch(Schema):
    """A stretch of a video, with a person's sentence."""

    start = number_field("Seconds", required=True, validate=_SECONDS)
    end = number_field("Seconds", required=True, validate=_SECONDS)
    text = text_field("The sentence", required=True, validate=_SENTENCE)


class KnownStretch(Schema):
    """Which stretch: its position is in the path."""

    was = number_field("When it begins now, seconds", required=True, validate=_SECONDS)


class Borders(KnownStretch):
    """Where a stretch shall begin and end; what is left out stays."""

    start = number_field("Seconds", validate=_SECONDS)
    end = number_field("Seconds", validate=_SECONDS)


class SplitAt(KnownStretch):
    """Where a stretch is split."""

    at = number_field("Seconds", required=True, validate=_SECONDS)


class CandidateSchema(Schema):
    """One sentence that the model found."""

    text = text_field("The sentence")
    score = number_field("Length-normalised log-probability; 0 is certainty")
    words = fields.List(fields.String(), metadata={"description": "As the model chose them"})
    attention = fields.List(
        fields.List(fields.List(fields.Integer())),
        metadata={"description": "Thousandths: of each word, on each frame, on each region"},
    )


class Hit(Schema):
    """A sentence that a search found."""

    start = number_field("Seconds")
    text = text_field("The sentence")


class VideoSchema(Schema):
    """A video in the library."""

    id = text_field("Random")
    name = text_field("As its owner calls it")
    state = fields.String(validate=validate.OneOf(STATES))
    size = fields.Integer(metadata={"description": "Bytes"})
    received = fields.Integer(metadata={"description": "Bytes that have arrived"})
    media_type = text_field("Told from its content", allow_none=True)
    created = number_field("Seconds since 1970")
    duration = number_field("Seconds", allow_none=True)
    model = text_field("Which model looked", allow_none=True)
    sentence = text_field("What happens in it", allow_none=True)
    corrected = fields.Boolean(metadata={"description": "Whether a person changed the sentence"})
    error = text_field("Why there is no sentence", allow_none=True)
    missing = number_field(
        "Since when a watched file is not there, seconds since 1970", allow_none=True
    )
    queue_place = fields.Integer(
        allow_none=True, metadata={"description": "How many come before it"}
    )
    hits = fields.List(fields.Nested(Hit))
    recorded = number_field("When it was filmed, by what the file says", allow_none=True)
    tags = fields.List(fields.String())
    twin = text_field(
        "Id of a video of the very same content that was here before", allow_none=True
    )


class SegmentSchema(Schema):
    """A stretch of a video in which a label holds."""

    start = number_field("Seconds")
    end = number_field("Seconds")
    label = text_field("What holds")
    probability = number_field("Of the label, the mean over the moments of the stretch")


class Labelling(Schema):
    """The labels of a video over time; several may hold at once."""

    state = text_field("Of the job that labels it; null: there was none", allow_none=True)
    error = text_field("Why that came to nothing", allow_none=True)
    model = text_field("Which model labelled it; null: none has", allow_none=True)
    segments = fields.List(fields.Nested(SegmentSchema), metadata={"description": "By start"})


class PreviewSchema(Schema):
    """A small copy, which browsers play, of a video that they do not."""

    state = text_field("Of the job that makes it; null: there was none", allow_none=True)
    error = text_field("Why that came to nothing", allow_none=True)
    media_type = text_field("Of the copy; null: there is none", allow_none=True)
    size = fields.Integer(metadata={"description": "Bytes"}, allow_none=True)
    duration = number_field("Seconds; of a long video it shows the beginning", allow_none=True)


class CaptionOptions(Schema):
    """What is asked of the sentences of a video, if anything."""

    start_with = text_field("How they begin", validate=validate.Length(1, 200))
    avoid = _words("None of them has these words")
    mention = _words("Each of them has these words")
    style = text_field("One of the model's styles", validate=validate.Length(1, 40))


class VideoDetails(VideoSchema):
    """All that is known of a video."""

    options = fields.Nested(
        CaptionOptions, metadata={"description": "What was asked of its sentences the last time"}
    )

    sentences = fields.List(fields.Nested(Sentence))
    times = fields.List(fields.Float(), metadata={"description": "Of the frames, seconds"})
    candidates = fields.List(fields.Nested(CandidateSchema))
    labelling = fields.Nested(Labelling)
    undo = fields.String(
        allow_none=True,
        validate=validate.OneOf(CHANGES),
        metadata={"description": "The last change of its sentences that can be undone"},
    )
    preview = fields.Nested(PreviewSchema)
    path = text_field("On the server, of a file in a watched folder", allow_none=True)


class Filter(Schema):
    """Which videos."""

    q = text_field("Words to search for", load_default="", validate=validate.Length(max=200))
    state = text_field("Only of this state", validate=validate.OneOf(STATES))
    corrected = fields.Boolean(metadata={"description": "Only corrected ones, or only others"})
    tag = text_field("Only with this tag", validate=validate.Length(max=LONGEST))
    twins = fields.Boolean(metadata={"description": "Only those that are here twice, or others"})
    sort = text_field("In which order", load_default="newest", validate=validate.OneOf(ORDERS))


class Query(Filter):
    """A page of the library."""

    page = _count("From 1", 1, 100_000, load_default=1)
    per_page = _count("To a page", 1, 200, load_default=24)


class Export(Filter):
    """What to take away."""

    content = text_field(
        "Sentences, or the labels of moments",
        load_default="sentences",
        validate=validate.OneOf(("sentences", "labels")),
    )
    format = text_field(
        "One file of JSON Lines or CSV; or a zip with an SRT, WebVTT or text file for each video",
        load_default="jsonl",
        validate=validate.OneOf(("jsonl", "csv", "srt", "vtt", "txt")),
    )
    id = fields.List(
        text_field("Id", validate=validate.Length(max=40)),
        load_default=list,
        validate=validate.Length(max=10_000),
        metadata={"description": "Only these videos"},
    )


class Delete(Schema):
    """How to delete."""

    forever = fields.Boolean(
        load_default=False, metadata={"description": "Not into the bin, or out of it too"}
    )


class Binned(Schema):
    """A video in the bin."""

    id = text_field("Its id")
    name = text_field("As its owner calls it")
    size = fields.Integer(metadata={"description": "Bytes"})
    sentence = text_field("What happens in it", allow_none=True)
    binned = number_field("When it was deleted, seconds since 1970")
    goes = number_field(
        "When it goes for good; null: only when the bin is emptied", allow_none=True
    )


class Bin(Schema):
    """What was deleted and can be put back, last first."""

    videos = fields.List(fields.Nested(Binned), required=True)


_TAGS = fields.List(
    text_field("A tag", validate=validate.Length(1, LONGEST)),
    validate=validate.Length(max=100),
    load_default=list,
    metadata={"description": "Tags"},
)


class Tags(Schema):
    """All tags of a video."""

    tags = _TAGS


class TagChange(Schema):
    """Tags given and taken."""

    videos = fields.List(
        text_field("Id", validate=validate.Length(max=40)),
        required=True,
        validate=validate.Length(max=10_000),
        metadata={"description": "Their ids"},
    )
    add = _TAGS
    remove = _TAGS


class TagCount(Schema):
    """A tag."""

    name = text_field("As it is spelt")
    count = fields.Integer(metadata={"description": "Of videos that have it"})


class AllTags(Schema):
    """All tags, by name."""

    tags = fields.List(fields.Nested(TagCount), required=True)


class Listing(Schema):
    """Videos, and how many there are."""

    videos = fields.List(fields.Nested(VideoSchema), required=True)
    total = fields.Integer(required=True)


class JobSchema(Schema):
    """A video on its way to its sentence or its labels."""

    number = fields.Integer()
    video = text_field("Its id")
    task = text_field("caption, preview or label")
    state = text_field("Of the job")
    attempts = fields.Integer()
    error = text_field("Why it came to nothing", allow_none=True)
    created = number_field("Seconds since 1970")
    started = number_field("Likewise", allow_none=True)
    finished = number_field("Likewise", allow_none=True)


class Jobs(Schema):
    """Newest first, at most 200."""

    jobs = fields.List(fields.Nested(JobSchema), required=True)


class JobFilter(Schema):
    """Which jobs."""

    state = text_field("Only of this state", validate=validate.OneOf(STATES[1:]))


class After(Schema):
    """Which events."""

    after = _count(
        "Only later ones; without it none, but where they stand", allow_none=True, load_default=None
    )


class Event(Schema):
    """Something changed."""

    number = fields.Integer()
    topic = text_field("video, model; label or preview, of a video")
    subject = text_field("Its id")
    state = text_field("What it is now")


class Events(Schema):
    """What changed, oldest first, at most 500."""

    events = fields.List(fields.Nested(Event), required=True)
    last = fields.Integer(required=True, metadata={"description": "Ask for what is after it"})


class Health(Schema):
    """How the server is."""

    status = text_field("ok, or overdue: nothing is being done though something waits")
    version = text_field("Of captioner")
    waiting = fields.Integer(metadata={"description": "Videos that wait"})


class Count(Schema):
    """How many."""

    count = fields.Integer(required=True)


class Queue(Schema):
    """The queue of captions since it was last empty."""

    done = fields.Integer(metadata={"description": "Videos that are through, captioned or failed"})
    total = fields.Integer(metadata={"description": "All, without those that were cancelled"})
    open = fields.Integer(metadata={"description": "Those that wait or are worked on"})
    failed = fields.Integer(metadata={"description": "Of the whole library"})
    minutes = number_field("Until it is empty; null: nobody knows", allow_none=True)
    paused = fields.Boolean()
