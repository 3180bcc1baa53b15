"""A hub that is down, overloaded or breaks off, stood in for by a server of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.tiny import write_model
from tests.unit.models.test_locate import in_shards

from finetune_exe.errors import USAGE

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123456789"
COMMIT = "0123456789012345678901234567890123456789"
FETCH = """
import sys
from finetune_exe.errors import FineTuneError
from finetune_exe.models.locate import model_folder
try:
    print(model_folder("owner/tiny"))
except FineTuneError as fault:
    print(fault, file=sys.stderr)
    sys.exit(fault.exit_status)
"""


class Hub:
    """Serves one model as the hub does; it may refuse everything, or break off within the weights."""

    def __init__(self, folder: Path) -> None:
        self.files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
        self.refuse: int | None = None
        self.break_off = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def answer(self, *, with_body: bool) -> None:
                if hub.refuse is not None:
                    self.send_response(hub.refuse)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif "/tree/" in self.path:
                    entries = [{"type": "file", "path": name, "size": len(content), "oid": COMMIT}
                               for name, content in hub.files.items()]  # fmt: skip
                    self.give(json.dumps(entries).encode(), with_body)
                elif self.path.startswith("/api/models/"):
                    names = [{"rfilename": name} for name in hub.files]
                    self.give(json.dumps({"id": "owner/tiny", "sha": COMMIT, "siblings": names}).encode(), with_body)
                else:
                    self.give(hub.files[self.path.rpartition("/")[2]], with_body)

            def give(self, content: bytes, with_body: bool) -> None:
                start = 0
                if wanted := self.headers.get("Range"):
                    start = int(wanted.removeprefix("bytes=").partition("-")[0])
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("X-Linked-Size", str(len(content)))
                if wanted:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.end_headers()
                if not with_body:
                    return
                if hub.break_off and len(content) > 50_000:
                    self.wfile.write(content[start : len(content) // 2])
                    self.wfile.flush()
                    self.connection.close()
                else:
                    self.wfile.write(content[start:])

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("hub") / "tiny")


@pytest.fixture
def hub(files: Path) -> Iterator[Hub]:
    made = Hub(files)
    yield made
    made.server.shutdown()
    made.server.server_close()


def fetch(cache: Path, address: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_ENDPOINT": address, "HF_HUB_CACHE": str(cache),
        "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0",
        **more,
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", FETCH], env=environment, capture_output=True, text=True, timeout=100,
                          check=False)  # fmt: skip
    assert TOKEN not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_hub_that_refuses_is_an_error_of_one_message(status: int, hub: Hub, tmp_path: Path) -> None:
    hub.refuse = status
    done = fetch(tmp_path, hub.address)
    assert done.returncode == USAGE
    assert "error[FT-M01]" in done.stderr


def test_a_model_that_was_fetched_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    first = fetch(tmp_path, hub.address)
    assert first.returncode == 0, first.stderr
    again = fetch(tmp_path, "http://127.0.0.1:9")
    assert (again.returncode, again.stdout) == (0, first.stdout)


def test_half_a_download_is_no_model_and_the_rest_is_fetched_later(hub: Hub, files: Path, tmp_path: Path) -> None:
    hub.break_off = True
    assert fetch(tmp_path, hub.address).returncode == USAGE
    assert fetch(tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1").returncode == USAGE, "no half model is used"
    hub.break_off = False
    done = fetch(tmp_path, hub.address)
    assert done.returncode == 0, done.stderr
    weights = Path(done.stdout.strip()) / "model.safetensors"
    assert weights.read_bytes() == (files / "model.safetensors").read_bytes()


def test_a_model_in_several_files_is_no_model_until_the_last_is_there(hub: Hub, tmp_path: Path) -> None:
    in_shards(write_model(tmp_path / "m"))
    hub.files = {file.name: file.read_bytes() for file in (tmp_path / "m").iterdir()}
    whole = fetch(tmp_path / "hub", hub.address)
    assert whole.returncode == 0, whole.stderr
    lost = sorted(Path(whole.stdout.strip()).glob("*.safetensors"))[1]
    lost.unlink()
    assert fetch(tmp_path / "hub", "http://127.0.0.1:9", HF_HUB_OFFLINE="1").returncode == USAGE
    again = fetch(tmp_path / "hub", hub.address)
    assert (again.returncode, again.stdout) == (0, whole.stdout), again.stderr
    assert lost.is_file()
