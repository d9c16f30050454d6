"""The pages that people see, and the fragments of them that are swapped as things change."""

import re
import threading
import time
from contextlib import closing
from dataclasses import asdict
from math import isqrt

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_wtf.csrf import generate_csrf

from . import constraints, describe, security
from .context import config, get_db
from .errors import Refusal
from .store import binned, history, jobs, models, moments, search, tags, videos
from .store.database import connect
from .store.events import events_after

pages = Blueprint("pages", __name__)
PER_PAGE = 24
KINDS = {"srt": "SRT", "vtt": "WebVTT", "json": "JSON", "txt": "Text"}
LABEL_KINDS = {
    "jsonl": "JSONL",
    "csv": "CSV",
    "srt": "SRT",
    "vtt": "WebVTT",
    "audacity": "Audacity",
}
_CORRECTED = {"corrected": True, "uncorrected": False}  # filters of the page
_STREAM_SECONDS = 60.0  # then the browser asks again, so that no thread is held for good
_MAX_STREAMS = 8
_streams = threading.BoundedSemaphore(_MAX_STREAMS)


@pages.get("/")
def library():
    """The library, and where videos are dropped."""
    last = _last_event()
    query, chosen = _query(request.args)
    page = min(max(1, request.args.get("page", 1, type=int)), 10**6)
    rows, total = search.find(get_db(), chosen, page, PER_PAGE)
    last_page = max(1, -(-total // PER_PAGE))
    if page > last_page:
        page = last_page
        rows, _ = search.find(get_db(), chosen, page, PER_PAGE)
    return render_template(
        "library.html",
        last_event=last,
        videos=[_card(row) for row in rows],
        total=total,
        everything=videos.count(get_db()),
        page=page,
        last_page=last_page,
        query=query,
        asked=_short(query),
        filter=_as_filter(chosen),
        limits=config(),
        queue=jobs.queue(get_db()),
        stored=videos.stored_bytes(get_db()),
        next_to_go=videos.next_to_go(get_db()),
        tags=tags.counts(get_db()),
        binned=binned.count(get_db()),
        deleted=_deleted(request.args.get("deleted", "")),
        has_labels=moments.any_labelled(get_db()),
        label_model=moments.model_name(config()),
        unlabelled=len(moments.unlabelled(get_db(), config())) if config().label_model else 0,
    )


@pages.get("/videos/<video>")
def video(video):
    """A video's own page."""
    last = _last_event()
    given = describe.video(get_db(), video)
    query, chosen = _query(request.args)
    number = next((n for n, found in enumerate(given["candidates"]) if found["attention"]), None)
    regions = len(given["candidates"][number]["attention"][0][0]) if number is not None else 0
    return render_template(
        "video.html",
        last_event=last,
        video=given,
        captioned=bool(given["sentences"]),
        is_picture=(given["media_type"] or "").startswith("image/"),
        grid=isqrt(regions) if isqrt(regions) ** 2 == regions else 0,
        kinds=KINDS.items(),
        changes=history.CHANGES,
        limits=config(),
        all_tags=tags.counts(get_db()),
        twin=videos.read(get_db(), given["twin"]) if given["twin"] else None,
        timeline=moments.timeline(given["labelling"]["segments"], given["duration"]),
        label_kinds=LABEL_KINDS.items(),
        left=len(search.to_correct(get_db(), chosen)) if "correct" in request.args else None,
        query=_short(query),
        can_label=config().label_model and moments.has_moments(get_db(), video),
        paused=jobs.is_paused(get_db()),
        can_ask=constraints.can_be_asked(),
        styles=constraints.styles(models.active(get_db())["path"]),
    )


@pages.get("/correct")
def correct():
    """Leads to the next video to correct of those found, or to the one before; round and round."""
    beside = request.args.get("after") or request.args.get("before") or ""
    query, chosen = _query(request.args)
    ids = search.to_correct(get_db(), chosen, beside)
    if not set(ids) - {beside}:
        flash("There is no other sentence to correct here.")
        return redirect(url_for("pages.library", **_short(query)))
    step = -1 if "before" in request.args else 1
    place = (ids.index(beside) + step) % len(ids) if beside in ids else 0
    return redirect(url_for("pages.video", video=ids[place], correct=1, **_short(query)))


@pages.post("/videos/delete")
def delete():
    """Deletes the videos that were ticked, or all that the search and the filter let through."""
    query, ids = _chosen()
    count, since = binned.put(get_db(), config(), ids)
    flash(f"Deleted {_videos(count)}.", f"undo:{since!r}" if since else "message")
    return redirect(url_for("pages.library", **query))


@pages.post("/videos/tag")
def tag():
    """Gives or takes a tag of the same videos as `delete`."""
    query, ids = _chosen()
    name = videos.tidy(request.form.get("name", ""))[: tags.LONGEST]
    is_added = request.form.get("act") == "add"
    if name and ids:
        tags.change(get_db(), ids, *(([name], []) if is_added else ([], [name])))
        flash(f"{'Tagged' if is_added else 'Took from'} {_videos(len(ids))}: {name}.")
    return redirect(url_for("pages.library", **query))


@pages.get("/bin")
def bin_page():
    """What was deleted and can be put back."""
    last = _last_event()
    return render_template(
        "bin.html", last_event=last, videos=binned.contents(get_db(), config()), limits=config()
    )


@pages.post("/bin/restore")
def restore():
    """Puts back videos that were named, or all that were deleted at one time."""
    ids, since = request.form.getlist("id"), request.form.get("since", type=float)
    if since:
        ids = [row["id"] for row in binned.contents(get_db(), config(), since)]
    flash(f"Put back {_videos(binned.restore(get_db(), ids))}.")
    return redirect(url_for("pages.library"))


@pages.get("/teaching")
def teaching():
    """Teaching: corrections in, a better model out."""
    last = _last_event()
    return render_template("teaching.html", last_event=last, **_teaching())


@pages.get("/api")
def api_page():
    """The API in words."""
    spec = current_app.extensions["openapi"].to_dict()
    return render_template("api.html", spec=spec, operations=list(_operations(spec)))


@pages.get("/login")
def login():
    """Asks for the token."""
    return render_template("login.html", next=request.args.get("next", ""))


@pages.post("/login")
def log_in():
    """Opens the session."""
    goal = request.form.get("next", "")
    if not security.let_in(request.form.get("token", "")):
        flash("This is not the right token. It was set when the server was started.")
        return render_template("login.html", next=goal), 401
    if not security.is_page_of_ours(goal):
        return redirect(url_for("pages.library"))
    return redirect(request.script_root + goal)


@pages.post("/logout")
def log_out():
    """Closes the session."""
    security.log_out()
    return redirect(url_for("pages.login"))


@pages.get("/csrf-token")
def csrf_token():
    """A token for a page whose own one is out of date."""
    return {"token": generate_csrf()}


@pages.get("/events")
def events():
    """Server-sent events: what changed, as it changes."""
    if not _streams.acquire(blocking=False):
        raise Refusal(503, "busy", "Too many pages are listening; ask for /api/v1/events.")
    given = request.headers.get("Last-Event-ID", request.args.get("after", ""))
    after = int(given) if re.fullmatch(r"[0-9]{1,15}", given) else None
    stream = _Stream(
        _tell(config().data, after, current_app.extensions["closing"]), mimetype="text/event-stream"
    )
    stream.headers["X-Accel-Buffering"] = "no"  # nginx would hold it back
    return stream


class _Stream(Response):
    """Gives its place back however it ends."""

    def close(self):
        super().close()
        _streams.release()


def _tell(data, after, closing_down):
    until, last = time.monotonic() + _STREAM_SECONDS, after
    yield "retry: 2000\n\n"
    with closing(connect(data)) as db:
        for beat in range(10**6):
            found = events_after(db, last)
            last = found["last"]
            for event in found["events"]:
                yield (
                    f"id: {event['number']}\nevent: {event['topic']}\n"
                    f"data: {event['subject']} {event['state']}\n\n"
                )
            if beat % 10 == 0:
                yield f"id: {last}\nevent: beat\ndata: \n\n"  # finds out who is gone
            if time.monotonic() > until or closing_down.wait(0.3):
                return


def _query(given) -> tuple[dict, search.Search]:
    """Which videos a page was asked for: as its address says it, and for `search.find`."""
    query = {name: given.get(name, "") for name in ("q", "state", "sort")}
    if query["sort"] not in search.ORDERS:
        query["sort"] = "newest"
    if given.get("tag"):
        query["tag"] = given["tag"][: tags.LONGEST]
    return query, search.Search(
        q=query["q"][:200],
        state=query["state"] if query["state"] in videos.STATES else None,
        corrected=_CORRECTED.get(query["state"]),
        tag=query.get("tag"),
        twins=True if query["state"] == "twins" else None,
        sort=query["sort"],
    )


def _short(query: dict) -> dict:
    """A query without what goes without saying."""
    return {name: value for name, value in query.items() if value and value != "newest"}


def _as_filter(chosen: search.Search) -> dict:
    """The same as fields of the API's export."""
    fields = {name: value for name, value in asdict(chosen).items() if value is not None}
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in fields.items()
    }


def _chosen() -> tuple[dict, list[str]]:
    """The query of the page that sent a form, and which videos it means."""
    query, chosen = _query(request.form)
    if not request.form.get("all"):
        return query, request.form.getlist("id")
    return query, [row["id"] for row in search.find(get_db(), chosen, per_page=-1)[0]]


def _deleted(video: str) -> dict | None:
    """A video that was just deleted on its own page, if it is in the bin."""
    found = binned.contents(get_db(), config()) if video else []
    return next((row for row in found if row["id"] == video), None)


def _videos(count: int) -> str:
    return f"{count} {'video' if count == 1 else 'videos'}"


def _last_event() -> int:
    """Where events stand before a page is made, so that it misses none."""
    return events_after(get_db(), None)["last"]


def _card(row: dict) -> dict:
    row["place"] = jobs.queue_place(get_db(), row["id"]) if row["state"] == "waiting" else None
    return row


def _teaching():
    db = get_db()
    labels = models.corrections(db)
    rows, known = [], models.all_models(db)
    names = {row["id"]: describe.name_of(row) for row in known}
    for row in known:
        found = describe.model(row)
        rows.append(
            found
            | describe.comparison(found)
            | {
                "base_name": names.get(row["base"], "the one before"),
                "report": describe.report_of(row),
                "size": models.size(row),
                "stage": models.stage(config(), row) if row["state"] in models.OPEN else None,
                "is_ours": models.is_ours(config(), row),
            }
        )
    return {
        "corrections": len(labels),
        "needed": models.MIN_CORRECTIONS,
        "corrected_videos": len({label["video"] for label in labels}),
        "models": rows,
        "current": next(row for row in rows if row["state"] == "active"),
        "open": next((row for row in rows if row["state"] in models.OPEN), None),
        "ready": [row for row in rows if row["state"] == "ready"],
        "others": len(models.captioned_by_others(db)),
        "said_before": len(models.said_before(db)),
        "limits": config(),
    }


def _operations(spec):
    """The operations of the OpenAPI document, one by one, references followed."""
    for path, methods in spec["paths"].items():
        shared = methods.get("parameters", [])
        for method, operation in methods.items():
            if method == "parameters":
                continue
            body = operation.get("requestBody", {}).get("content", {})
            schema = body.get("application/json", {}).get("schema", {})
            yield {
                "method": method.upper(),
                "path": f"/api/v1{path}" if not path.startswith("/api") else path,
                "operation": operation,
                "parameters": [*shared, *operation.get("parameters", [])],
                "fields": _resolve(spec, schema).get("properties", {}),
                "is_file": "application/octet-stream" in body,
            }


def _resolve(spec, schema):
    name = schema.get("$ref", "").rpartition("/")[2]
    return spec["components"]["schemas"][name] if name else schema
