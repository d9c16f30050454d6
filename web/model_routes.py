"""The API's routes of the models: teaching, comparing, using, naming and taking them away."""

import tempfile
import zipfile
from pathlib import Path

from flask import send_file
from marshmallow import Schema, fields, validate

from . import describe, formats, schemas
from .context import config, get_db
from .errors import not_found
from .routes import blueprint, errors, file
from .store import jobs, models

_WORK = "work"  # in a model folder: of its training, of no use to a model


class Point(Schema):
    """After an epoch."""

    epoch = fields.Float()
    loss = fields.Float()
    val_loss = fields.Float()


class Comparison(Schema):
    """What two models say of a video, or of a stretch of it."""

    video = schemas.text_field("Its id")
    start = schemas.number_field("Of the stretch, seconds")
    end = schemas.number_field("Likewise; null: the end of the video", allow_none=True)
    wanted = schemas.text_field("What a person says; left out where nobody corrected it")
    old = schemas.text_field("What the model before says", allow_none=True)
    new = schemas.text_field(
        "What the new model says; of what a person corrected, what a model says that was taught "
        "the other corrections only",
        allow_none=True,
    )


class Name(Schema):
    """How well a new model has learned a word that the one before did not know."""

    word = schemas.text_field("The word")
    num_wanted = fields.Integer(metadata={"description": "Corrections that have it"})
    num_said = fields.Integer(
        metadata={"description": "Those of which a model says it that was taught the others"}
    )
    elsewhere = schemas.number_field("Share of other videos of which the new model says it")


class Judgement(Schema):
    """Whether a new model is better than the one that it was taught from."""

    text = schemas.text_field("For people")
    is_better = fields.Boolean(metadata={"description": "Likely so, and harmless"})
    is_certain = fields.Boolean(metadata={"description": "Better, and not by chance"})
    harm = schemas.text_field(
        "What it says of other videos that it should not; null: nothing", allow_none=True
    )
    before = schemas.number_field("CIDEr-D of the words that matter, of the model before")
    after = schemas.number_field("Of the new one")
    interval = fields.List(
        fields.Float(), metadata={"description": "Bounds of 95 % of the difference"}
    )
    names = fields.List(fields.Nested(Name))
    more = fields.Integer(
        allow_none=True,
        metadata={"description": "How many more corrections are likely to help; null: unknown"},
    )


class ModelSchema(Schema):
    """A model."""

    id = fields.Integer()
    name = fields.String()
    state = fields.String()
    learned = fields.Integer(metadata={"description": "Corrections that it was taught"})
    created = schemas.number_field("Seconds since 1970")
    error = schemas.text_field("Why it could not be taught", allow_none=True)
    curve = fields.List(fields.Nested(Point))
    judgement = fields.Nested(
        Judgement, allow_none=True, metadata={"description": "null: it was not judged"}
    )
    comparison = fields.List(fields.Nested(Comparison))


class Models(Schema):
    """All models, newest first."""

    models = fields.List(fields.Nested(ModelSchema), required=True)
    corrections = fields.Integer(metadata={"description": "Sentences that people corrected"})


class ModelName(Schema):
    """What a model is called."""

    name = schemas.text_field(
        "Its name",
        required=True,
        validate=validate.And(
            validate.Length(1, models.LONGEST),
            validate.Regexp(r".*\S", error="Write a name."),
        ),
    )


@blueprint.route("/models")
@blueprint.response(200, Models)
@errors()
def list_models():
    """List the models: the one in use, earlier ones, and those being taught"""
    db = get_db()
    return {
        "models": [describe.model(row) for row in models.all_models(db)],
        "corrections": len(models.corrections(db)),
    }


@blueprint.route("/models", methods=["POST"])
@blueprint.response(201, ModelSchema)
@errors(409)
def teach():
    """Teach a new model from all corrections"""
    db = get_db()
    return describe.model(models.read(db, models.teach(db, config())))


@blueprint.route("/models/<int:model>")
@blueprint.response(200, ModelSchema)
@errors(404)
def read_model(model):
    """Get a model"""
    return describe.model(_model(model))


@blueprint.route("/models/<int:model>", methods=["PUT"])
@blueprint.arguments(ModelName)
@blueprint.response(200, ModelSchema)
@errors(404, 409)
def rename(given, model):
    """Give a model another name"""
    models.rename(get_db(), _model(model)["id"], given["name"])
    return describe.model(_model(model))


@blueprint.route("/models/<int:model>", methods=["DELETE"])
@blueprint.response(204)
@errors(404, 409)
def delete_model(model):
    """Delete a model that was taught here, for good"""
    models.delete(get_db(), config(), _model(model)["id"])


@blueprint.route("/models/<int:model>/adopt", methods=["POST"])
@blueprint.response(200, ModelSchema)
@errors(404, 409)
def adopt(model):
    """Use a model, new or earlier, from now on"""
    models.adopt(get_db(), _model(model)["id"])
    return describe.model(_model(model))


@blueprint.route("/models/<int:model>/discard", methods=["POST"])
@blueprint.response(200, ModelSchema)
@errors(404, 409)
def discard(model):
    """Do without a model that was taught here; one that is being taught stops

    It can be restored for some days.
    """
    models.discard(get_db(), config(), _model(model)["id"])
    return describe.model(_model(model))


@blueprint.route("/models/<int:model>/restore", methods=["POST"])
@blueprint.response(200, ModelSchema)
@errors(404, 409)
def restore_model(model):
    """Take back that a model was discarded"""
    models.restore(get_db(), _model(model)["id"])
    return describe.model(_model(model))


@blueprint.route("/models/<int:model>/archive")
@file("application/zip")
@errors(404)
def archive(model):
    """Download a model folder as a zip, for `captioner caption --model` elsewhere"""
    row = _model(model)
    folder = Path(row["path"])
    if row["state"] in models.OPEN or not folder.is_dir():
        raise not_found("model folder")
    name = formats.stem(f"{describe.name_of(row)}.zip")
    out = tempfile.TemporaryFile(dir=config().data)  # noqa: SIM115 (closed with the answer)
    with zipfile.ZipFile(out, "w") as packed:  # weights hardly become smaller
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if path.is_file() and inside.parts[0] != _WORK:
                packed.write(path, Path(name) / inside)
    size = out.tell()
    out.seek(0)
    answer = send_file(out, "application/zip", as_attachment=True, download_name=f"{name}.zip")
    answer.content_length = size
    return answer


@blueprint.route("/models/<int:model>/report")
@file("text/html")
@errors(404)
def report(model):
    """Download the report on the training of a model"""
    path = describe.report_of(_model(model))
    if path is None:
        raise not_found("report")
    answer = send_file(path, "text/html")
    answer.headers["Content-Security-Policy"] = (
        "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    )
    return answer


@blueprint.route("/recaption", methods=["POST"])
@blueprint.response(200, schemas.Count)
@errors()
def recaption():
    """Caption all videos again that another model captioned; corrected sentences stand"""
    return {"count": jobs.retry_all(get_db())}


@blueprint.route("/recaption/undo", methods=["POST"])
@blueprint.response(200, schemas.Count)
@errors()
def take_back():
    """Put back the sentences that the model in use said before another model captioned anew

    Corrected sentences stand.
    """
    return {"count": models.take_back(get_db())}


def _model(model):
    return models.read(get_db(), min(model, 2**53))
