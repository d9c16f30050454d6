"""What goes over the API, as marshmallow schemas; the OpenAPI document is made of them."""

from marshmallow import Schema, fields, validate

from .store.history import CHANGES
from .store.search import ORDERS
from .store.tags import LONGEST
from .store.videos import STATES


def _text(description, **kwargs):
    return fields.String(metadata={"description": description}, **kwargs)


def _number(description, **kwargs):
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

    code = _text("One word for scripts", required=True)
    message = _text("A sentence for people", required=True)
    offset = fields.Integer(metadata={"description": "How much of the video has arrived"})


class NewVideo(Schema):
    """A video about to arrive."""

    name = _text("Its file name", required=True, validate=validate.Length(1, 1000))
    size = _count("Bytes", 1, required=True, strict=True)


class Sentence(Schema):
    """What is said of a video, or of a stretch of it."""

    position = fields.Integer(metadata={"description": "0 for all of it"})
    start = _number("Seconds")
    end = _number("Seconds")
    text = _text("As it stands")
    original = _text("What the model said")
    corrected = fields.Boolean(metadata={"description": "Whether a person changed it"})


class NewSentence(Schema):
    """A person's sentence."""

    text = _text(
        "The sentence; null goes back to the model's",
        required=True,
        allow_none=True,
        validate=_SENTENCE,
    )
    was = _number("When its stretch begins; refused if it no longer does", validate=_SECONDS)


class NewStretch(Schema):
    """A stretch of a video, with a person's sentence."""

    start = _number("Seconds", required=True, validate=_SECONDS)
    end = _number("Seconds", required=True, validate=_SECONDS)
    text = _text("The sentence", required=True, validate=_SENTENCE)


class KnownStretch(Schema):
    """Which stretch: its position is in the path."""

    was = _number("When it begins now, seconds", required=True, validate=_SECONDS)


class Borders(KnownStretch):
    """Where a stretch shall begin and end; what is left out stays."""

    start = _number("Seconds", validate=_SECONDS)
    end = _number("Seconds", validate=_SECONDS)


class SplitAt(KnownStretch):
    """Where a stretch is split."""

    at = _number("Seconds", required=True, validate=_SECONDS)


class CandidateSchema(Schema):
    """One sentence that the model found."""

    text = _text("The sentence")
    score = _number("Length-normalised log-probability; 0 is certainty")
    words = fields.List(fields.String(), metadata={"description": "As the model chose them"})
    attention = fields.List(
        fields.List(fields.List(fields.Integer())),
        metadata={"description": "Thousandths: of each word, on each frame, on each region"},
    )


class Hit(Schema):
    """A sentence that a search found."""

    start = _number("Seconds")
    text = _text("The sentence")


class VideoSchema(Schema):
    """A video in the library."""

    id = _text("Random")
    name = _text("As its owner calls it")
    state = fields.String(validate=validate.OneOf(STATES))
    size = fields.Integer(metadata={"description": "Bytes"})
    received = fields.Integer(metadata={"description": "Bytes that have arrived"})
    media_type = _text("Told from its content", allow_none=True)
    created = _number("Seconds since 1970")
    duration = _number("Seconds", allow_none=True)
    model = _text("Which model looked", allow_none=True)
    sentence = _text("What happens in it", allow_none=True)
    corrected = fields.Boolean(metadata={"description": "Whether a person changed the sentence"})
    error = _text("Why there is no sentence", allow_none=True)
    missing = _number("Since when a watched file is not there, seconds since 1970", allow_none=True)
    queue_place = fields.Integer(
        allow_none=True, metadata={"description": "How many come before it"}
    )
    hits = fields.List(fields.Nested(Hit))
    recorded = _number("When it was filmed, by what the file says", allow_none=True)
    tags = fields.List(fields.String())
    twin = _text("Id of a video of the very same content that was here before", allow_none=True)


class SegmentSchema(Schema):
    """A stretch of a video in which a label holds."""

    start = _number("Seconds")
    end = _number("Seconds")
    label = _text("What holds")
    probability = _number("Of the label, the mean over the moments of the stretch")


class Labelling(Schema):
    """The labels of a video over time; several may hold at once."""

    state = _text("Of the job that labels it; null: there was none", allow_none=True)
    error = _text("Why that came to nothing", allow_none=True)
    model = _text("Which model labelled it; null: none has", allow_none=True)
    segments = fields.List(fields.Nested(SegmentSchema), metadata={"description": "By start"})


class PreviewSchema(Schema):
    """A small copy, which browsers play, of a video that they do not."""

    state = _text("Of the job that makes it; null: there was none", allow_none=True)
    error = _text("Why that came to nothing", allow_none=True)
    media_type = _text("Of the copy; null: there is none", allow_none=True)
    size = fields.Integer(metadata={"description": "Bytes"}, allow_none=True)
    duration = _number("Seconds; of a long video it shows the beginning", allow_none=True)


class CaptionOptions(Schema):
    """What is asked of the sentences of a video, if anything."""

    start_with = _text("How they begin", validate=validate.Length(1, 200))
    avoid = _words("None of them has these words")
    mention = _words("Each of them has these words")
    style = _text("One of the model's styles", validate=validate.Length(1, 40))


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
    path = _text("On the server, of a file in a watched folder", allow_none=True)


class Filter(Schema):
    """Which videos."""

    q = _text("Words to search for", load_default="", validate=validate.Length(max=200))
    state = _text("Only of this state", validate=validate.OneOf(STATES))
    corrected = fields.Boolean(metadata={"description": "Only corrected ones, or only others"})
    tag = _text("Only with this tag", validate=validate.Length(max=LONGEST))
    twins = fields.Boolean(metadata={"description": "Only those that are here twice, or others"})
    sort = _text("In which order", load_default="newest", validate=validate.OneOf(ORDERS))


class Query(Filter):
    """A page of the library."""

    page = _count("From 1", 1, 100_000, load_default=1)
    per_page = _count("To a page", 1, 200, load_default=24)


class Export(Filter):
    """What to take away."""

    content = _text(
        "Sentences, or the labels of moments",
        load_default="sentences",
        validate=validate.OneOf(("sentences", "labels")),
    )
    format = _text(
        "One file of JSON Lines or CSV; or a zip with an SRT, WebVTT or text file for each video",
        load_default="jsonl",
        validate=validate.OneOf(("jsonl", "csv", "srt", "vtt", "txt")),
    )
    id = fields.List(
        _text("Id", validate=validate.Length(max=40)),
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

    id = _text("Its id")
    name = _text("As its owner calls it")
    size = fields.Integer(metadata={"description": "Bytes"})
    sentence = _text("What happens in it", allow_none=True)
    binned = _number("When it was deleted, seconds since 1970")
    goes = _number("When it goes for good; null: only when the bin is emptied", allow_none=True)


class Bin(Schema):
    """What was deleted and can be put back, last first."""

    videos = fields.List(fields.Nested(Binned), required=True)


_TAGS = fields.List(
    _text("A tag", validate=validate.Length(1, LONGEST)),
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
        _text("Id", validate=validate.Length(max=40)),
        required=True,
        validate=validate.Length(max=10_000),
        metadata={"description": "Their ids"},
    )
    add = _TAGS
    remove = _TAGS


class TagCount(Schema):
    """A tag."""

    name = _text("As it is spelt")
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
    video = _text("Its id")
    task = _text("caption, preview or label")
    state = _text("Of the job")
    attempts = fields.Integer()
    error = _text("Why it came to nothing", allow_none=True)
    created = _number("Seconds since 1970")
    started = _number("Likewise", allow_none=True)
    finished = _number("Likewise", allow_none=True)


class Jobs(Schema):
    """Newest first, at most 200."""

    jobs = fields.List(fields.Nested(JobSchema), required=True)


class JobFilter(Schema):
    """Which jobs."""

    state = _text("Only of this state", validate=validate.OneOf(STATES[1:]))


class After(Schema):
    """Which events."""

    after = _count(
        "Only later ones; without it none, but where they stand", allow_none=True, load_default=None
    )


class Event(Schema):
    """Something changed."""

    number = fields.Integer()
    topic = _text("video, model; label or preview, of a video")
    subject = _text("Its id")
    state = _text("What it is now")


class Events(Schema):
    """What changed, oldest first, at most 500."""

    events = fields.List(fields.Nested(Event), required=True)
    last = fields.Integer(required=True, metadata={"description": "Ask for what is after it"})


class Point(Schema):
    """After an epoch."""

    epoch = fields.Float()
    loss = fields.Float()
    val_loss = fields.Float()


class Comparison(Schema):
    """A held-out video."""

    video = _text("Its id")
    wanted = _text("What a person says")
    old = _text("What the model before says", allow_none=True)
    new = _text("What the new model says", allow_none=True)


class ModelSchema(Schema):
    """A model."""

    id = fields.Integer()
    name = fields.String()
    state = fields.String()
    learned = fields.Integer(metadata={"description": "Corrections that it was taught"})
    created = _number("Seconds since 1970")
    error = _text("Why it could not be taught", allow_none=True)
    curve = fields.List(fields.Nested(Point))
    comparison = fields.List(fields.Nested(Comparison))


class Models(Schema):
    """All models, newest first."""

    models = fields.List(fields.Nested(ModelSchema), required=True)
    corrections = fields.Integer(metadata={"description": "Sentences that people corrected"})


class Health(Schema):
    """How the server is."""

    status = _text("ok, or overdue: nothing is being done though something waits")
    version = _text("Of captioner")
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
    minutes = _number("Until it is empty; null: nobody knows", allow_none=True)
    paused = fields.Boolean()
