"""The API for scripts, which the page uses too."""

import re
from importlib.metadata import version

import flask_smorest
from flask import Flask, Response, current_app, request, send_file

from captioner.moments.output import FORMATS as LABEL_FORMATS

from . import constraints, describe, formats, schemas, security
from .config import WebConfig
from .context import config, get_db
from .errors import Refusal, not_found
from .routes import PREFIX, blueprint, errors, file, kinds, named
from .store import binned, jobs, models, moments, previews, search, uploads, videos
from .store.events import events_after


@blueprint.route("/health")
@blueprint.doc(security=[])
@blueprint.response(200, schemas.Health)
@errors()
def health():
    """Check whether the server works"""
    waiting, idle_seconds = jobs.waiting(get_db())
    status = "overdue" if (idle_seconds or 0) > 60 else "ok"
    return {"status": status, "version": version("captioner"), "waiting": waiting}


@blueprint.route("/metrics")
@file("text/plain", description="Prometheus' text format")
@errors()
def metrics():
    """Get metrics for Prometheus"""
    return Response(current_app.extensions["metrics"].text(), mimetype="text/plain")


@blueprint.route("/videos", methods=["POST"])
@blueprint.arguments(schemas.NewVideo)
@blueprint.response(201, schemas.VideoDetails)
@errors(507)
def new_video(given):
    """Announce a video

    Its bytes follow in pieces: `PATCH /videos/{video}/content`.
    """
    security.count("upload", config().upload_rate)
    return describe.video(get_db(), uploads.begin(get_db(), config(), given["name"], given["size"]))


@blueprint.route("/videos")
@blueprint.arguments(schemas.Query, location="query")
@blueprint.response(200, schemas.Listing)
@errors()
def list_videos(query):
    """Search the library"""
    page = {name: query.pop(name) for name in ("page", "per_page")}
    rows, total = search.find(get_db(), search.Search(**query), **page)
    for row in rows:
        row["hits"] = [
            {"start": hit["start"], "text": re.sub("[\x02\x03]", "", hit["text"])}
            for hit in row["hits"]
        ]
        row["corrected"] = row["corrected"] is not None
    return {"videos": rows, "total": total}


@blueprint.route("/videos/<string:video>")
@blueprint.response(200, schemas.VideoDetails)
@errors(404)
def read_video(video):
    """Get all that is known of a video"""
    return describe.video(get_db(), video)


@blueprint.route("/videos/<string:video>", methods=["DELETE"])
@blueprint.arguments(schemas.Delete, location="query")
@blueprint.response(204)
@errors(404)
def delete_video(given, video):
    """Delete a video and all that is known of it

    It can be put back for some days, unless it is deleted forever.
    """
    if not given["forever"]:
        videos.read(get_db(), video)
        binned.put(get_db(), config(), [video])
    elif not videos.delete(get_db(), config(), [video]):
        raise not_found()


@blueprint.route("/videos/<string:video>/content", methods=["PATCH"])
@blueprint.doc(
    parameters=[
        {
            "in": "header",
            "name": "Upload-Offset",
            "required": True,
            "description": "Where the piece begins: how many bytes have arrived so far",
            "schema": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
        }
    ],
    requestBody={
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
)
@blueprint.response(200, schemas.VideoDetails)
@errors(404, 409, 415, 507)
@blueprint.alt_response(422, schema=schemas.Problem, description="A piece without bytes")
def append(video):
    """Upload the next piece of a video

    A piece that was cut off is not counted: read the video, and go on from `received`. With the
    last piece the video is put into the queue.
    """
    offset = request.headers.get("Upload-Offset", "")
    if not re.fullmatch(r"[0-9]{1,15}", offset):
        raise Refusal(400, "bad_offset", "The header Upload-Offset is missing or not a number.")
    uploads.append(get_db(), config(), video, int(offset), request.get_data(cache=False))
    return describe.video(get_db(), video)


@blueprint.route("/videos/<string:video>/content")
@file("video/*", "image/*")
@file("video/*", "image/*", status=206, description="The part that was asked for")
@errors(404, 416)
def content(video):
    """Download the video, or the part of it that a Range header asks for"""
    row = videos.read(get_db(), video)
    if row["received"] < row["size"]:
        raise Refusal(404, "not_found", "This video is not fully uploaded yet.")
    return _send(videos.path_of(config(), video), row["media_type"], row["name"], video)


@blueprint.route("/videos/<string:video>/preview")
@file("video/mp4", "video/webm")
@file("video/mp4", "video/webm", status=206, description="The part that was asked for")
@errors(404, 416)
def preview(video):
    """Download the preview of a video that browsers do not play, or a part of it"""
    row = videos.read(get_db(), video)
    found = previews.read(get_db(), video)
    if found["media_type"] is None:
        raise not_found("preview")
    path = previews.path_of(config(), video)
    return _send(path, found["media_type"], row["name"], f"{video}-preview")


@blueprint.route("/videos/<string:video>/preview", methods=["POST"])
@blueprint.response(200, schemas.VideoDetails)
@errors(404, 409)
def make_preview(video):
    """Make a preview of a video, for a browser that does not play what others do"""
    jobs.preview(get_db(), video)
    return describe.video(get_db(), video)


def _send(path, media_type, name, etag):
    if not path.exists():  # it lay in a watched folder
        raise not_found("file")
    answer = send_file(
        path.resolve(),
        mimetype=media_type,
        download_name=name,
        as_attachment="download" in request.args,
        conditional=True,
        etag=etag,
        max_age=3600,
    )
    answer.headers["Content-Security-Policy"] = "sandbox; default-src 'none'; media-src 'self'"
    return answer


@blueprint.route("/videos/<string:video>/frames/<int:number>")
@file("image/jpeg")
@errors(404)
def frame(video, number):
    """Download one of the frames that the model looked at"""
    videos.read(get_db(), video)
    path = videos.frames_of(config(), video) / f"{number}.jpg"
    if not path.is_file():
        raise not_found("frame")
    return send_file(path.resolve(), mimetype="image/jpeg", max_age=300)


@blueprint.route("/videos/<string:video>/cover")
@file("image/jpeg")
@errors(404)
def cover(video):
    """Download the frame that shows most of a video, also of one in the bin"""
    if not videos.is_here(get_db(), video):
        raise not_found()
    folder = videos.frames_of(config(), video)
    # Of a video captioned by an earlier version there is only the first.
    found = [path for path in (folder / "cover.jpg", folder / "0.jpg") if path.is_file()]
    if not found:
        raise not_found("frame")
    return send_file(found[0].resolve(), mimetype="image/jpeg", max_age=300)


@blueprint.route("/videos/<string:video>/captions/<string:kind>")
@kinds(formats.MEDIA_TYPES)
@errors(404)
def captions(video, kind):
    """Download the sentences as vtt, srt, json or txt"""
    row = videos.read(get_db(), video)
    if kind not in formats.MEDIA_TYPES:
        raise not_found("format")
    if row["sentence"] is None:
        raise Refusal(404, "not_captioned", "This video has no sentence yet.")
    answer = Response(formats.write(get_db(), video, kind), mimetype=formats.MEDIA_TYPES[kind])
    return named(answer, f"{formats.stem(row['name'])}.{kind}")


@blueprint.route("/videos/<string:video>/labels/<string:kind>")
@kinds(formats.LABEL_MEDIA_TYPES)
@errors(404)
def labels_file(video, kind):
    """Download labels over time as jsonl, csv, srt, vtt or audacity"""
    row = videos.read(get_db(), video)
    if kind not in formats.LABEL_MEDIA_TYPES:
        raise not_found("format")
    if moments.read(get_db(), video)["model"] is None:
        raise Refusal(404, "not_labelled", "The moments of this video have no labels yet.")
    text = formats.write_labels(get_db(), video, kind)
    answer = Response(text, mimetype=formats.LABEL_MEDIA_TYPES[kind])
    return named(answer, f"{formats.stem(row['name'])}.labels{LABEL_FORMATS[kind].suffix}")


@blueprint.route("/videos/<string:video>/sentences/<int:position>", methods=["PUT"])
@blueprint.arguments(schemas.NewSentence)
@blueprint.response(200, schemas.VideoDetails)
@errors(404, 409)
def correct(given, video, position):
    """Correct a sentence: 0 is that of the whole video"""
    videos.correct(get_db(), video, min(position, 2**53), **given)
    return describe.video(get_db(), video)


@blueprint.route("/videos/<string:video>/cancel", methods=["POST"])
@blueprint.response(200, schemas.VideoDetails)
@errors(404, 409)
def cancel(video):
    """Take a video out of the queue"""
    jobs.cancel(get_db(), video)
    return describe.video(get_db(), video)


@blueprint.route("/videos/<string:video>/retry", methods=["POST"])
@blueprint.arguments(schemas.CaptionOptions, required=False)
@blueprint.response(200, schemas.VideoDetails)
@errors(404, 409)
def retry(given, video):
    """Caption a video again, maybe with words to begin with, to avoid and to mention

    Each word has to be one that the model knows.
    """
    constraints.check(models.active(get_db())["path"], config().num_captions, given)
    jobs.retry(get_db(), video, given)
    return describe.video(get_db(), video)


@blueprint.route("/videos/<string:video>/label", methods=["POST"])
@blueprint.response(200, schemas.VideoDetails)
@errors(404, 409)
def label(video):
    """Label every moment of a video, maybe again"""
    jobs.label(get_db(), config(), video)
    return describe.video(get_db(), video)


@blueprint.route("/export")
@blueprint.arguments(schemas.Export, location="query")
@file("application/jsonl", "text/csv", "application/zip")
@errors()
def export(query):
    """Download sentences or labels of some videos, or of all that a search finds"""
    wanted, kind = set(query.pop("id")), query.pop("format")
    is_labels = query.pop("content") == "labels"
    rows, _ = search.find(get_db(), search.Search(**query), per_page=-1)
    rows = [row for row in rows if not wanted or row["id"] in wanted]
    name = "labels" if is_labels else "captions"
    if kind in formats.IN_ZIP:
        answer = Response(
            formats.archive(get_db(), rows, kind, is_labels), mimetype="application/zip"
        )
        kind = f"{kind}.zip"
    else:
        text = (formats.export_labels if is_labels else formats.export)(get_db(), rows, kind)
        answer = Response(text, mimetype=formats.LABEL_MEDIA_TYPES[kind])
    answer.headers.set("Content-Disposition", "attachment", filename=f"{name}.{kind}")
    return answer


@blueprint.route("/jobs")
@blueprint.arguments(schemas.JobFilter, location="query")
@blueprint.response(200, schemas.Jobs)
@errors()
def list_jobs(query):
    """List jobs: waiting, running and finished ones"""
    return {"jobs": jobs.find(get_db(), query.get("state"))}


@blueprint.route("/events")
@blueprint.arguments(schemas.After, location="query")
@blueprint.response(200, schemas.Events)
@errors()
def events(query):
    """List what changed since an event"""
    return events_after(get_db(), query["after"])


@blueprint.route("/relabel", methods=["POST"])
@blueprint.response(200, schemas.Count)
@errors(409)
def relabel():
    """Label the moments of all videos that the label model has not labelled"""
    return {"count": jobs.label_all(get_db(), config())}


class _Api(flask_smorest.Api):
    """Errors in one form everywhere: a code and a sentence."""

    ERROR_SCHEMA = schemas.Problem
    DEFAULT_ERROR_RESPONSE_NAME = None


def register(app: Flask, config: WebConfig, refuse) -> None:
    """Adds the API and its OpenAPI document to the application.

    Args:
        app: the application.
        config: of the server.
        refuse: turns an error into an answer.
    """
    app.config.update(
        API_TITLE="captioner",
        API_VERSION="v1",
        OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX=PREFIX,
        OPENAPI_JSON_PATH="openapi.json",
    )
    api = _Api(spec_kwargs={"info": {"description": "Videos in, sentences out."}})
    api.handle_http_exception = refuse
    api.init_app(app)
    api.register_blueprint(blueprint)
    app.extensions["openapi"] = api.spec
    if config.token:
        api.spec.components.security_scheme("token", {"type": "http", "scheme": "bearer"})
        api.spec.options["security"] = [{"token": []}]
