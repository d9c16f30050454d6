"""What the modules of the API's routes share: the blueprint, and words for the OpenAPI document."""

from flask import Response, request
from flask_smorest import Blueprint

from . import schemas

PREFIX = "/api/v1"
blueprint = Blueprint("api", __name__, url_prefix=PREFIX)
_SENTENCES = {
    400: "The request cannot be understood",
    401: "A token is needed, or it is wrong",
    403: "The request came from another site",
    404: "There is no such thing",
    409: "It is in a state in which this cannot be done",
    413: "Too large",
    415: "The file is no video",
    416: "This part of the file does not exist",
    429: "Too many or too fast; wait",
    507: "No room on the disk",
}


def errors(*more):
    """Says in the OpenAPI document what can go wrong, besides what always can."""

    def decorate(view):
        for status in (400, 401, 403, 413, 429, *more):
            view = blueprint.alt_response(
                status, schema=schemas.Problem, description=_SENTENCES[status]
            )(view)
        return view

    return decorate


def file(*types, status=200, description="The file"):
    """Says in the OpenAPI document that a file is the answer."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in types}
    if "application/json" in content:
        content["application/json"] = {"schema": {"type": "object"}}
    return blueprint.doc(responses={status: {"description": description, "content": content}})


def kinds(media_types):
    """Says in the OpenAPI document that a file of one of these kinds is the answer."""

    def decorate(view):
        schema = {"type": "string", "enum": list(media_types)}
        kind = {"in": "path", "name": "kind", "required": True, "schema": schema}
        return blueprint.doc(parameters=[kind])(file(*media_types.values())(view))

    return decorate


def named(answer: Response, name: str) -> Response:
    """A file to download under this name, if that was asked for."""
    if "download" in request.args:
        answer.headers.set("Content-Disposition", "attachment", filename=name)
    return answer
