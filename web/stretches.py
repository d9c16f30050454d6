"""The routes of the API that arrange the stretches of a video, and undo."""

from . import describe, schemas
from .context import get_db
from .routes import blueprint, errors
from .store import history, stretches

_PATH = "/videos/<string:video>/sentences"


@blueprint.route(_PATH, methods=["POST"])
@blueprint.arguments(schemas.NewStretch)
@blueprint.response(201, schemas.VideoDetails)
@errors(404, 409)
def add_stretch(given, video):
    """Add a stretch with its sentence; those that it overlaps give way"""
    stretches.add(get_db(), video, **given)
    return describe.video(get_db(), video)


@blueprint.route(f"{_PATH}/<int:position>", methods=["PATCH"])
@blueprint.arguments(schemas.Borders)
@blueprint.response(200, schemas.VideoDetails)
@errors(404, 409)
def move_borders(given, video, position):
    """Move the borders of a stretch; those that touch it move along"""
    stretches.move(get_db(), video, position, **given)
    return describe.video(get_db(), video)


@blueprint.route(f"{_PATH}/<int:position>/split", methods=["POST"])
@blueprint.arguments(schemas.SplitAt)
@blueprint.response(200, schemas.VideoDetails)
@errors(404, 409)
def split_stretch(given, video, position):
    """Split a stretch; both parts keep its sentence"""
    stretches.split(get_db(), video, position, **given)
    return describe.video(get_db(), video)


@blueprint.route(f"{_PATH}/<int:position>/merge", methods=["POST"])
@blueprint.arguments(schemas.KnownStretch)
@blueprint.response(200, schemas.VideoDetails)
@errors(404, 409)
def merge_stretches(given, video, position):
    """Merge a stretch with the next"""
    stretches.merge(get_db(), video, position, **given)
    return describe.video(get_db(), video)


@blueprint.route(f"{_PATH}/<int:position>", methods=["DELETE"])
@blueprint.arguments(schemas.KnownStretch, location="query")
@blueprint.response(200, schemas.VideoDetails)
@errors(404, 409)
def delete_stretch(given, video, position):
    """Delete a stretch and its sentence"""
    stretches.delete(get_db(), video, position, **given)
    return describe.video(get_db(), video)


@blueprint.route("/videos/<string:video>/undo", methods=["POST"])
@blueprint.response(200, schemas.VideoDetails)
@errors(404, 409)
def undo(video):
    """Undo the last change of a video's sentences, also by captioning again"""
    history.undo(get_db(), video)
    return describe.video(get_db(), video)
