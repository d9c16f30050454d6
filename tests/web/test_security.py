"""What strangers may try."""

import re
import socket
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from web import create_app
from web.config import WebConfig

from .fakes import FakeCaptioner
from .serving import listening

PAGE = "http://localhost"


@pytest.fixture
def locked(tmp_path):
    """A server beyond this machine, behind a token."""
    config = WebConfig(data=tmp_path / "locked", min_free=0, host="0.0.0.0", token="open sesame")
    return create_app(config, FakeCaptioner())


def _csrf(client, path="/"):
    page = client.get(path).get_data(as_text=True)
    return page.partition('name="csrf-token" content="')[2].partition('"')[0]


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..\\..\\windows\\system32\\a.avi",
        "/etc/cron.d/evil",
        "a\0b.avi",
        "C:\\x.avi",
        "%2e%2e%2fa.avi",
        "....//....//a.avi",
        ".",
        "\u202egpj.avi",
    ],
)
def test_names_never_touch_the_disk(send, client, clips, config, name):
    before = {path for path in config.data.parent.rglob("*")}
    video = send(clips["red"], name).json
    new = {path for path in config.data.parent.rglob("*")} - before
    assert {path.name for path in new} <= {video["id"]} | {
        "captioner.sqlite3-wal", "captioner.sqlite3-shm",
    }  # fmt: skip
    assert not set("/\\\0\u202e") & set(video["name"])
    assert client.get(f"/videos/{video['id']}").status_code == 200


@pytest.mark.parametrize(
    "video", ["..", "%2e%2e", "..%2f..%2fsecret_key", "../secret_key", "secret_key", "x" * 24, "\0"]
)
def test_ids_never_lead_out_of_the_folder(client, config, video):
    for path in (
        f"/api/v1/videos/{video}",
        f"/api/v1/videos/{video}/content",
        f"/api/v1/videos/{video}/frames/0",
        f"/videos/{video}",
    ):
        assert client.application.test_client().get(path).status_code in (404, 308), path
    answer = client.patch(
        f"/api/v1/videos/{video}/content", data=b"x", headers={"Upload-Offset": 0}
    )
    assert answer.status_code == 404
    assert client.delete(f"/api/v1/videos/{video}").status_code == 404
    assert (config.data / "secret_key").exists()


def test_scripts_in_names_and_sentences_are_only_text(client, captioned, send, clips, runner):
    evil = '<script>alert(1)</script><img src=x onerror="alert(2)">\'"'
    video = send(clips["red"], evil.replace("/", "") + ".avi").json["id"]
    runner.invoke(args=["work"])
    client.put(f"/api/v1/videos/{video}/sentences/0", json={"text": evil})
    assert client.get(f"/api/v1/videos/{video}").json["sentence"] == evil
    browser = client.application.test_client()
    for path in ("/", "/?q=alert", f"/videos/{video}", "/teaching"):
        page = browser.get(path).get_data(as_text=True)
        assert "<script>alert" not in page
        assert "<img src=x" not in page
    vtt = client.get(f"/api/v1/videos/{video}/captions/vtt").get_data(as_text=True)
    assert "<script>" not in vtt
    with client.get(f"/api/v1/videos/{video}/content?download") as download:
        pass
    assert "\n" not in download.headers["Content-Disposition"]


@pytest.mark.parametrize("path", ["/", "/teaching", "/api", "/login", "/none", "/api/v1/videos"])
def test_every_answer_tells_browsers_to_be_strict(client, path):
    headers = client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http:" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in policy
    page = client.get(path).get_data(as_text=True)
    assert "<script>" not in page
    assert " style=" not in page
    assert " onclick=" not in page


def test_uploads_are_never_sent_as_html(client, send, runner):
    polyglot = b"GIF89a/*<html><script>alert(1)</script>*/" + bytes(40)
    video = send(polyglot, "page.html").json["id"]
    with client.get(f"/api/v1/videos/{video}/content") as answer:
        pass
    assert answer.content_type == "image/gif"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_ranges(client, captioned, clips):
    path = f"/api/v1/videos/{captioned['red']}/content"
    whole, size = clips["red"], len(clips["red"])

    def get(given):
        with client.get(path, headers={"Range": given}) as answer:
            answer.get_data()
            return answer

    answer = get("bytes=10-19")
    assert (answer.status_code, answer.data) == (206, whole[10:20])
    assert answer.headers["Content-Range"] == f"bytes 10-19/{size}"
    assert get("bytes=-5").data == whole[-5:]
    assert get(f"bytes={size - 3}-").data == whole[-3:]
    assert get(f"bytes=0-{10**18}").data == whole
    for wrong in (f"bytes={size}-", "bytes=20-10", f"bytes=-{10**30}"):
        assert get(wrong).status_code in (200, 206, 416)
        assert whole.startswith(get(wrong).data) or get(wrong).status_code == 416
    many = "bytes=" + ",".join("0-" for _ in range(2000))
    assert len(get(many).data) <= size + 200
    for odd in ("bytes=a-b", "bytes", "lines=1-2", "bytes=--1", "bytes=1-2-3"):
        assert get(odd).status_code in (200, 416)


def test_cross_site_requests_change_nothing(client, captioned):
    path = f"/api/v1/videos/{captioned['red']}"
    foreign = {"Origin": "https://evil.example"}
    for method, url in (("DELETE", path), ("POST", f"{path}/retry"), ("POST", "/videos/delete")):
        assert client.open(url, method=method, headers=foreign).status_code == 403
        assert (
            client.open(url, method=method, headers={"Sec-Fetch-Site": "cross-site"}).status_code
            == 403
        )
        assert client.open(url, method=method, headers={"Origin": "null"}).status_code == 403
    assert client.get(path).status_code == 200
    assert "Access-Control-Allow-Origin" not in client.get(path, headers=foreign).headers


def test_a_browser_needs_the_csrf_token(client, captioned):
    path = f"/api/v1/videos/{captioned['red']}"
    ours = {"Origin": PAGE, "Sec-Fetch-Site": "same-origin"}
    token = _csrf(client)
    # Not the last character: of base64 it may say the same in four ways.
    forged = ("J" if token[0] != "J" else "K") + token[1:]
    for wrong in ({}, {"X-CSRFToken": "wrong"}, {"X-CSRFToken": forged}):
        assert client.delete(path, headers=ours | wrong).status_code == 400
    form = {"id": captioned["blue"]}
    assert client.post("/videos/delete", data=form).status_code == 400  # it has a cookie
    assert client.delete(path, headers=ours | {"X-CSRFToken": token}).status_code == 204
    answer = client.post("/videos/delete", data=form | {"csrf_token": token})
    assert answer.status_code == 302
    assert client.get("/api/v1/videos").json["total"] == 1


def test_an_old_page_gets_a_new_token(client, captioned):
    """As after a login in another tab; the page asks for one and tries again."""
    path = f"/api/v1/videos/{captioned['red']}"
    ours = {"Origin": PAGE, "Sec-Fetch-Site": "same-origin"}
    old = _csrf(client)
    client.delete_cookie("captioner_8080")
    _csrf(client)
    answer = client.delete(path, headers=ours | {"X-CSRFToken": old})
    assert (answer.status_code, answer.json["code"]) == (400, "old_page")
    assert "reload" in answer.json["message"]
    token = client.get("/csrf-token").json["token"]
    assert client.delete(path, headers=ours | {"X-CSRFToken": token}).status_code == 204


def test_two_servers_on_one_machine_have_cookies_of_their_own(config, tmp_path):
    apps = [create_app(replace(config, data=tmp_path / str(port), port=port)) for port in (1, 2)]
    client = apps[0].test_client()
    client.get("/")
    first = client.get_cookie("captioner_1").value
    other = apps[1].test_client()
    other.set_cookie("captioner_1", first)
    other.get("/")
    assert other.get_cookie("captioner_1").value == first
    assert other.get_cookie("captioner_2").value != first


def test_a_browser_sends_whole_pieces(client, config):
    size = config.max_piece
    video = client.post("/api/v1/videos", json={"name": "a.avi", "size": size + 1}).json["id"]
    headers = {"Origin": PAGE, "X-CSRFToken": _csrf(client), "Upload-Offset": "0"}
    path = f"/api/v1/videos/{video}/content"
    piece = b"RIFFxxxxAVI ".ljust(size, b"x")
    assert client.patch(path, data=piece + b"x", headers=headers).status_code == 413
    assert client.patch(path, data=piece, headers=headers).json["received"] == size


def test_other_names_of_this_machine_are_not_answered(client):
    """A page of a stranger whose name was made to lead here (DNS rebinding)."""
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080"):
        assert client.get("/api/v1/videos", headers={"Host": host}).status_code == 400
    for host in ("localhost:8080", "127.0.0.1:8080", "127.0.0.1"):
        assert client.get("/api/v1/videos", headers={"Host": host}).status_code == 200


def test_a_foreign_name_is_told_plainly(client, config):
    answer = client.get("/", headers={"Host": "captions.example"})
    assert (answer.status_code, answer.mimetype) == (400, "text/plain")
    assert b"'captions.example'; start it with --name" in answer.data
    named = create_app(replace(config, names=("captions.example",))).test_client()
    assert named.get("/", headers={"Host": "captions.example"}).status_code == 200
    # A page of a stranger can send this header, and is not believed.
    forged = {"Host": "evil.example", "X-Forwarded-Host": "captions.example"}
    assert named.get("/", headers=forged).status_code == 400


def test_behind_a_proxy(client, captioned):
    """As nginx passes requests on by default, and with what README tells it to add."""
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/captions"}
    page = client.get("/", headers=told)
    text = page.get_data(as_text=True)
    assert 'href="/captions/static/style.css"' in text
    assert '<meta name="root" content="/captions">' in text
    assert f'href="/captions/videos/{captioned["red"]}"' in text
    assert "; Secure;" in page.headers["Set-Cookie"]
    for path in ("/teaching", "/api", f"/videos/{captioned['red']}"):
        text = client.get(path, headers=told).get_data(as_text=True)
        assert not re.findall(r'(?:href|src|action|poster)="/(?!captions/)', text), path
    # Only from a proxy's address.
    stranger = {"REMOTE_ADDR": "192.0.2.7"}
    text = client.get("/", headers=told, environ_overrides=stranger).get_data(as_text=True)
    assert "/captions" not in text

    # Another Host than the browser's, which nginx sends by default, does no harm.
    client = client.application.test_client()
    passed_on = {"Host": "127.0.0.1:8080"}
    other_host = passed_on | {"Origin": "http://captions.example"}
    text = client.get("/", headers=passed_on).get_data(as_text=True)
    token = text.partition('name="csrf-token" content="')[2].partition('"')[0]
    path = f"/api/v1/videos/{captioned['red']}"
    assert client.delete(path, headers=other_host).status_code == 403
    assert client.delete(path, headers=other_host | {"X-CSRFToken": token}).status_code == 204
    with client.get("/events") as stream:
        assert stream.headers["X-Accel-Buffering"] == "no"


def test_beyond_this_machine_a_token_is_a_must(tmp_path):
    with pytest.raises(ValueError, match="token"):
        WebConfig(data=tmp_path, host="0.0.0.0")


def test_nothing_without_the_token(locked):
    client = locked.test_client()
    for rule in locked.url_map.iter_rules():
        if rule.endpoint in ("static", "pages.login", "pages.log_in", "api.health"):
            continue
        path = rule.rule
        for name in rule.arguments:
            kind = "int:" if name in ("number", "position", "model") else ""
            path = path.replace(f"<{kind or 'string:'}{name}>", "1").replace(f"<{name}>", "1")
        method = next(iter(rule.methods - {"HEAD", "OPTIONS"}))
        answer = client.open(path, method=method)
        assert answer.status_code == (401 if path.startswith("/api/") else 302), path
    assert client.get("/api/v1/health").status_code == 200


def test_the_token_of_scripts(locked):
    client = locked.test_client()

    def get(token):
        return client.get("/api/v1/videos", headers={"Authorization": token}).status_code

    assert get("Bearer open sesame") == 200
    assert get("Bearer wrong") == 401
    assert get("Bearer ") == 401
    assert get("Basic czNjcmV0") == 401


def test_guessing_tokens_is_slow(locked):
    client = locked.test_client()
    answers = [
        client.get("/api/v1/videos", headers={"Authorization": f"Bearer {n}"}).status_code
        for n in range(12)
    ]
    assert answers == [401] * 10 + [429] * 2


def test_wrong_tokens_of_one_visitor_lock_out_no_other(locked):
    client = locked.test_client()

    def get(token, visitor):
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": visitor}
        return client.get("/api/v1/videos", headers=headers).status_code

    assert [get("wrong", "192.0.2.1") for _ in range(11)] == [401] * 10 + [429]
    assert get("open sesame", "192.0.2.1") == 429
    assert get("open sesame", "192.0.2.2") == 200


def test_leaving_ends_the_session(locked):
    """A copy of its cookie opens nothing any more."""
    client = locked.test_client()
    client.post("/login", data={"csrf_token": _csrf(client, "/login"), "token": "open sesame"})
    cookie = client.get_cookie("captioner_8080").value
    copy = locked.test_client()
    copy.set_cookie("captioner_8080", cookie)
    assert copy.get("/api/v1/videos").status_code == 200
    client.post("/logout", data={"csrf_token": _csrf(client)})
    assert copy.get("/api/v1/videos").status_code == 401


def test_what_is_kept_is_for_its_owner_alone(tmp_path, clips):
    data = tmp_path / "shared"
    data.mkdir(mode=0o755)
    config = WebConfig(data=data, min_free=0)
    create_app(config)
    (data / "captioner.sqlite3").chmod(0o644)  # as an earlier version left it
    client = create_app(config).test_client()
    client.post("/api/v1/videos", json={"name": "a.avi", "size": 9})
    assert {oct(path.stat().st_mode)[-3:] for path in (data, data / "frames")} == {"700"}
    files = [path for path in data.rglob("*") if path.is_file()]
    assert {oct(path.stat().st_mode)[-3:] for path in files} == {"600"}


def test_coming_in_and_leaving(locked):
    client = locked.test_client()
    answer = client.get("/videos/abc?x=1")
    assert answer.headers["Location"] == "/login?next=/videos/abc?x%3D1"
    token = _csrf(client, "/login")

    def enter(secret, goal=""):
        form = {"csrf_token": token, "token": secret, "next": goal}
        return client.post("/login", data=form)

    assert enter("wrong").status_code == 401
    assert b"not the right token" in enter("wrong").data
    for goal in (
        "https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x",
        "/\t/evil.example", "/\n/evil.example", "/\\/evil.example", "\t//evil.example", "x",
    ):  # fmt: skip
        assert enter("open sesame", goal).headers["Location"] == "/"
        token = _csrf(client)
    answer = enter("open sesame", "/teaching")
    assert answer.headers["Location"] == "/teaching"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert client.get("/teaching").status_code == 200
    client.post("/logout", data={"csrf_token": _csrf(client)})
    assert client.get("/teaching").status_code == 302


def test_a_new_token_shuts_old_sessions_out(locked, tmp_path):
    client = locked.test_client()
    client.post("/login", data={"csrf_token": _csrf(client, "/login"), "token": "open sesame"})
    assert client.get("/").status_code == 200
    cookie = client.get_cookie("captioner_8080").value
    config = WebConfig(data=tmp_path / "locked", host="0.0.0.0", token="another")
    other = create_app(config).test_client()
    other.set_cookie("captioner_8080", cookie)
    assert other.get("/").status_code == 302


def test_thousands_of_tiny_uploads_meet_a_limit(config):
    config = replace(config, upload_rate="50 per minute")
    client = create_app(config).test_client()
    answers = [
        client.post("/api/v1/videos", json={"name": f"{n}.avi", "size": 1}).status_code
        for n in range(2000)
    ]
    assert answers == [201] * 50 + [429] * 1950
    answer = client.post("/api/v1/videos", json={"name": "n.avi", "size": 1})
    assert "wait" in answer.json["message"]
    assert int(answer.headers["Retry-After"]) > 0
    assert client.get("/api/v1/videos").status_code == 200
    assert len(list((config.data / "videos").iterdir())) == 50


@pytest.fixture
def served(config):
    """A waitress server on a free port."""
    with listening(replace(config, max_piece=10_000)) as server:
        yield server


def _talk(server, *pieces):
    """All that a server says before it closes the line, which it may do in the middle."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.effective_port), timeout=5) as line:
        with suppress(ConnectionError, OSError):
            for piece in pieces:
                line.sendall(piece)
            line.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while part := line.recv(65536):
                answer += part
    return answer


def _patch(video, length):
    return (
        f"PATCH /api/v1/videos/{video}/content HTTP/1.1\r\nHost: localhost\r\nUpload-Offset: 0\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()


def _announce(server, size=5000):
    import requests

    url = f"http://127.0.0.1:{server.effective_port}/api/v1/videos"
    return requests.post(url, json={"name": "a.avi", "size": size}, timeout=5).json()["id"]


def _received(server, video):
    import requests

    url = f"http://127.0.0.1:{server.effective_port}/api/v1/videos/{video}"
    return requests.get(url, timeout=5).json()["received"]


def test_lying_lengths(served, clips):
    video = _announce(served)
    # More announced than sent: the piece never counts.
    assert not _talk(served, _patch(video, 5000), clips["red"][:100]).startswith(b"HTTP/1.1 200")
    assert _received(served, video) == 0
    # Less announced than sent: only what was announced counts.
    assert _talk(served, _patch(video, 100), clips["red"][:5000]).startswith(b"HTTP/1.1 200")
    assert _received(served, video) == 100
    for length in ("-5", "1e9", "99999999999999999999", "0x10"):
        assert _talk(served, _patch(video, length)).startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))
    assert _received(served, video) == 100


def test_oversize_pieces_are_refused_before_they_are_read(served):
    video = _announce(served)
    answer = _talk(served, _patch(video, 10**9))
    assert answer.startswith(b"HTTP/1.1 413")
    answer = _talk(served, _patch(video, 10_500), b"RIFFxxxxAVI " + b"x" * 10_488)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"too_large" in answer or b"request_entity_too_large" in answer


def test_slow_uploads_hold_nobody_up(served):
    """More of them than there are threads, each a few bytes at a time."""
    video = _announce(served)
    lines = []
    for _ in range(40):
        line = socket.create_connection(("127.0.0.1", served.effective_port), timeout=5)
        line.sendall(_patch(video, 5000) + b"R")
        lines.append(line)
    started = time.monotonic()
    assert _received(served, video) == 0
    assert time.monotonic() - started < 2
    for line in lines:
        line.close()
