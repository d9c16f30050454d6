"""The routes of the API that keep the library tidy: the bin, tags, files that are here twice."""

from . import describe, schemas
from .context import config, get_db
from .errors import not_found
from .routes import blueprint, errors
from .store import binned, tags, videos


@blueprint.route("/bin")
@blueprint.response(200, schemas.Bin)
@errors()
def list_bin():
    """List what was deleted and can be put back"""
    return {"videos": binned.contents(get_db(), config())}


@blueprint.route("/bin", methods=["DELETE"])
@blueprint.response(200, schemas.Count)
@errors()
def empty_bin():
    """Delete all in the bin for good"""
    return {"count": binned.empty(get_db(), config())}


@blueprint.route("/videos/<string:video>/restore", methods=["POST"])
@blueprint.response(200, schemas.VideoDetails)
@errors(404)
def restore_video(video):
    """Take a video out of the bin"""
    if not binned.restore(get_db(), [video]):
        raise not_found("video in the bin")
    return describe.video(get_db(), video)


@blueprint.route("/videos/<string:video>/keep", methods=["POST"])
@blueprint.response(200, schemas.VideoDetails)
@errors(404)
def keep_both(video):
    """Keep a video though the same file is here already"""
    videos.keep_both(get_db(), video)
    return describe.video(get_db(), video)


@blueprint.route("/tags")
@blueprint.response(200, schemas.AllTags)
@errors()
def list_tags():
    """List all tags"""
    return {"tags": tags.counts(get_db())}


@blueprint.route("/tags", methods=["POST"])
@blueprint.arguments(schemas.TagChange)
@blueprint.response(200, schemas.AllTags)
@errors()
def change_tags(given):
    """Add tags to several videos, and remove some"""
    tags.change(get_db(), given["videos"], given["add"], given["remove"])
    return {"tags": tags.counts(get_db())}


@blueprint.route("/videos/<string:video>/tags", methods=["PUT"])
@blueprint.arguments(schemas.Tags)
@blueprint.response(200, schemas.VideoDetails)
@errors(404)
def put_tags(given, video):
    """Set the tags of a video"""
    tags.put(get_db(), video, given["tags"])
    return describe.video(get_db(), video)
