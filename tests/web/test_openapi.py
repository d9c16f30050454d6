"""schemathesis: no request of any kind that the OpenAPI document allows, or forbids, ends in a
500 or in an answer that it does not tell of."""

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

from web import create_app
from web.config import WebConfig

from .conftest import draw, work
from .fakes import label_folder

# What is right in form is refused all the same where there is no room, or it is no video.
_TOO_STRICT = [positive_data_acceptance]


@pytest.fixture
def described(tmp_path):
    """An application with a video, captioned and labelled, and its document."""
    config = WebConfig(
        data=tmp_path / "data",
        label_model=label_folder(tmp_path / "moments"),
        min_free=0,
        upload_rate="100000 per minute",
    )
    app = create_app(config)
    client = app.test_client()
    content = draw(tmp_path / "red.avi", "red").read_bytes()
    video = client.post("/api/v1/videos", json={"name": "red.avi", "size": len(content)}).json["id"]
    client.patch(f"/api/v1/videos/{video}/content", data=content, headers={"Upload-Offset": 0})
    work(config)
    described = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app)

    @described.hook
    def map_path_parameters(context, path_parameters):
        """Most of the time the video that is there, so that more than 404 is seen."""
        if "video" in (path_parameters or {}) and len(str(path_parameters["video"])) % 4:
            known = {"video": video, "position": 0, "number": 0}
            path_parameters |= {name: known[name] for name in known if name in path_parameters}
        return path_parameters

    return described


# schemathesis does not close the answers that it has read, and so the files behind them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_operation_answers_as_it_says(described):
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 20
    operations.sort(key=lambda operation: operation.method == "delete")  # while it is there
    seen = {
        operation.label: _try(operation, mode)
        for operation in operations
        for mode in (schemathesis.GenerationMode.NEGATIVE, schemathesis.GenerationMode.POSITIVE)
    }
    assert 200 in seen["GET /api/v1/videos/{video}"]
    assert 200 in seen["GET /api/v1/videos/{video}/captions/{kind}"]
    assert 200 in seen["GET /api/v1/videos/{video}/labels/{kind}"]
    assert 200 in seen["POST /api/v1/relabel"]
    assert 200 in seen["PUT /api/v1/videos/{video}/sentences/{position}"]
    assert 200 in seen["PUT /api/v1/videos/{video}/tags"]
    assert 200 in seen["POST /api/v1/tags"]
    assert 200 in seen["GET /api/v1/export"]
    assert 200 in seen["GET /api/v1/bin"]


def _try(operation, mode):
    statuses = set()

    @hypothesis.settings(
        max_examples=4,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def answers_as_it_says(case):
        statuses.add(case.call_and_validate(excluded_checks=_TOO_STRICT).status_code)

    try:
        answers_as_it_says()
    except hypothesis.errors.Unsatisfiable:
        # Nothing can be wrong with a request that takes nothing.
        assert mode is schemathesis.GenerationMode.NEGATIVE
    return statuses
