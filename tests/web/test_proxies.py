"""The page behind nginx, with the lines that README gives."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from web.config import WebConfig

from .browser import Person, chromium
from .conftest import draw
from .serving import serving, wait

README = Path(__file__).parents[2] / "README.md"
_AROUND = """
daemon off; pid {folder}/pid; error_log {folder}/log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen 127.0.0.1:{port}; {inside} }}
}}
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
def nginx(tmp_path, port):
    """Puts nginx before a server: `nginx(url, inside)`, its address; skips where there is none."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("no nginx here: apt-get install nginx-light")
    started = []

    def start(inside):
        path = tmp_path / "nginx.conf"
        path.write_text(_AROUND.format(folder=tmp_path, port=port, inside=inside))
        started.append(subprocess.Popen([program, "-c", str(path), "-p", str(tmp_path)]))
        wait(lambda: _listens(port))
        return f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.terminate()
        process.wait()


def _inside(url, kind):
    """The block that README gives, for this address; or the bare default."""
    if kind == "default":
        return f"location / {{ proxy_pass {url}; }}"
    block = re.search(r"```nginx\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    block = re.search(r"location.*?}", block, re.DOTALL)[0]
    assert "http://127.0.0.1:8080/" in block
    # The server in the test has no name of its own.
    return block.replace("http://127.0.0.1:8080/", f"{url}/").replace("$host", "127.0.0.1")


@pytest.mark.parametrize(("kind", "path"), [("default", ""), ("readme", "/captions")])
def test_behind_nginx(nginx, tmp_path, kind, path):
    """Upload, live news, correction and deletion, with its defaults and under a prefix."""
    browser = chromium()
    try:
        with serving(WebConfig(data=tmp_path / "data", min_free=0)) as url:
            person = Person(browser, nginx(_inside(url, kind)) + path)
            person.go("/")
            clip = draw(tmp_path / "red.webm", "red")
            person.all("#files")[0].send_keys(str(clip))
            person.click(".card.done .sentence", "A red ball")
            person.wait("document.querySelector('video').readyState >= 2")
            person.click("#edit")
            person.see("#text").send_keys("Through a proxy.", Keys.ENTER)
            person.see("#sentence", "Through a proxy.")
            person.click("#retry")  # and what becomes of it is heard, not asked for
            person.see("#heading .facts")
            person.click("#delete")
            person.click("#sure button[value=yes]")
            person.see("h2", "Correct and teach")
            assert browser.current_url.partition("?")[0] == f"{person.url}/"
            assert person.complaints() == []
            browser.get("about:blank")
    finally:
        browser.quit()
