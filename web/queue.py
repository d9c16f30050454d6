"""The API's routes of the whole queue."""

from . import schemas
from .context import get_db
from .routes import blueprint, errors
from .store import jobs


@blueprint.route("/queue")
@blueprint.response(200, schemas.Queue)
@errors()
def queue():
    """Get the state of the queue of captions"""
    return jobs.queue(get_db())


@blueprint.route("/queue/pause", methods=["POST"])
@blueprint.response(200, schemas.Queue)
@errors()
def pause():
    """Pause the queue until it is resumed, also over a restart"""
    jobs.pause(get_db(), True)
    return jobs.queue(get_db())


@blueprint.route("/queue/resume", methods=["POST"])
@blueprint.response(200, schemas.Queue)
@errors()
def resume():
    """Resume the queue"""
    jobs.pause(get_db(), False)
    return jobs.queue(get_db())


@blueprint.route("/queue/cancel", methods=["POST"])
@blueprint.response(200, schemas.Count)
@errors()
def cancel_all():
    """Take all videos out of the queue that wait for a caption"""
    return {"count": jobs.cancel_all(get_db())}


@blueprint.route("/queue/retry", methods=["POST"])
@blueprint.response(200, schemas.Count)
@errors()
def retry_failed():
    """Caption all videos again that could not be captioned"""
    return {"count": jobs.retry_failed(get_db())}
