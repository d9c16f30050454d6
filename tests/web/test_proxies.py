"""The page behind nginx and Caddy, with the lines that README gives."""

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from web.config import WebConfig

from .browser import Person, chromium, find_programs
from .conftest import draw
from .serving import serving, wait

README = Path(__file__).parents[2] / "README.md"
_AROUND = """
daemon off; pid {folder}/pid; error_log {folder}/log; worker_processes 1;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server { listen 127.0.0.1:{port}; {inside} }
}
"""


@pytest.fixture
def port():
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _listens(port):
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def start(tmp_path, port):
    """Starts a proxy with a configuration; its address. Skips where there is no such program."""
    started = []

    def start(name, configuration):
        found = find_programs((name,), {"nginx": "nginx-light"}.get(name, name))
        if isinstance(found, str):
            pytest.skip(found)
        path = tmp_path / "proxy.conf"
        path.write_text(configuration.replace("{port}", str(port)))
        arguments = {
            "nginx": ["-c", path, "-p", tmp_path],
            "caddy": ["run", "--config", path, "--adapter", "caddyfile"],
        }
        environment = os.environ | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        started.append(subprocess.Popen([*found, *arguments[name]], env=environment))
        wait(lambda: _listens(port))
        return f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.terminate()
        process.wait()


def _readme(kind, address):
    """The block that README gives, for this address; the server in the test has no name."""
    text = README.read_text(encoding="utf-8")
    block = re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1]
    assert "127.0.0.1:8080" in block
    return block.replace("127.0.0.1:8080", address)


def _nginx(folder, inside):
    return _AROUND.replace("{folder}", str(folder)).replace("{inside}", inside)


def _bare(folder, address):
    return _nginx(folder, f"location / {{ proxy_pass http://{address}; }}")


def _of_nginx(folder, address):
    inside = re.search(r"location.*?}", _readme("nginx", address), re.DOTALL)[0]
    return _nginx(folder, inside.replace("$host", "127.0.0.1"))


def _of_caddy(_, address):
    site = _readme("caddy", address).replace("captions.example", "http://127.0.0.1:{port}")
    return f"{{\n admin off\n}}\n{site}"


@pytest.mark.parametrize(
    ("name", "configure", "path"),
    [("nginx", _bare, ""), ("nginx", _of_nginx, "/captions"), ("caddy", _of_caddy, "/captions")],
)
def test_behind_a_proxy(start, tmp_path, name, configure, path):
    """Upload, live news, correction and deletion, with its defaults and under a prefix."""
    browser = chromium()
    try:
        with serving(WebConfig(data=tmp_path / "data", min_free=0)) as url:
            address = url.removeprefix("http://")
            person = Person(browser, start(name, configure(tmp_path, address)) + path)
            person.go("/")
            clip = draw(tmp_path / "red.webm", "red")
            person.all("#files")[0].send_keys(str(clip))
            person.click(".card.done .sentence", "A red ball")
            person.wait("document.querySelector('video').readyState >= 2")
            person.click("#edit")
            person.see("#text").send_keys("Through a proxy.", Keys.ENTER)
            person.see("#sentence", "Through a proxy.")
            person.click("#retry")  # and what becomes of it is heard, not asked for
            person.see("#undo", "captioning again")
            assert person.complaints() == []
            person.click("#delete")
            person.click("#sure button[value=yes]")
            person.see("h2", "Correct and teach")
            assert browser.current_url.partition("?")[0] == f"{person.url}/"
            # What the page was asking for at that moment was not there any more.
            assert all(" 404 " in one for one in person.complaints())
            browser.get("about:blank")
    finally:
        browser.quit()
