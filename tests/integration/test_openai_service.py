"""`fine-tune openai` against a server of OpenAI's fine-tuning interface on this machine."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.unit.export.test_exporters import plan

from finetune_exe.cli.main import cli
from finetune_exe.errors import FineTuneError
from finetune_exe.export.targets import find_exporter
from finetune_exe.workflow.hosted import Service, read_job

pytest.importorskip("openai", reason="the package openai is not installed")
KEY = "sk-secret-of-the-test"


@dataclass
class Fake:
    """What the server was told, and what it shall say."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    fault: tuple[int, str] | None = None
    redirect: str | None = None


def handler(fake: Fake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, content: dict[str, Any], status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def taken(self) -> bytes | None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fake.keys.add(self.headers.get("Authorization", ""))
            if fake.redirect:
                self.send_response(307)
                self.send_header("Location", fake.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            if fake.fault:
                self.answer({"error": {"message": fake.fault[1], "type": "invalid_request_error"}}, fake.fault[0])
                return None
            return body

        def do_POST(self) -> None:
            body = self.taken()
            if body is None:
                return
            if self.path == "/v1/files":
                boundary = re.search(r"boundary=(\S+)", self.headers["Content-Type"])
                assert boundary is not None
                parts = body.split(b"--" + boundary[1].encode())
                content = next(part.split(b"\r\n\r\n", 1)[1][:-2] for part in parts if b"filename=" in part)
                assert any(b"fine-tune" in part for part in parts)
                name = f"file-{len(fake.files)}"
                fake.files[name] = content
                self.answer({"id": name, "object": "file", "bytes": len(content), "created_at": 1, "filename": "x",
                             "purpose": "fine-tune", "status": "processed"})  # fmt: skip
            elif self.path == "/v1/fine_tuning/jobs":
                told = json.loads(body)
                name = f"ftjob-{len(fake.jobs)}"
                fake.jobs[name] = {
                    **told, "id": name, "object": "fine_tuning.job", "status": "running", "created_at": 1, "error": None,
                    "fine_tuned_model": None, "trained_tokens": None, "organization_id": "o", "result_files": [],
                    "hyperparameters": {}, "finished_at": None,
                }  # fmt: skip
                self.answer(fake.jobs[name])
            else:
                job = fake.jobs[self.path.split("/")[-2]]
                assert self.path.endswith("/cancel")
                job["status"] = "cancelled"
                self.answer(job)

        def do_GET(self) -> None:
            if self.taken() is None:
                return
            path = self.path.split("?")[0]
            if path.endswith("/events"):
                made = {"object": "fine_tuning.job.event", "level": "info", "type": "message"}
                events = [{**made, "id": str(n), "created_at": n, "message": f"step {n}\x1b[31m"} for n in (2, 1)]
                self.answer({"object": "list", "data": events, "has_more": False})
                return
            job = fake.jobs[path.split("/")[-1]]
            job.update(status="succeeded", fine_tuned_model="ft:tuned", trained_tokens=1234)
            self.answer(job)

    return Handler


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    fake = Fake()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(fake)) as server:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name, first in (("train", 0), ("validation", 100)):
        rows = [
            {"messages": [{"role": "user", "content": f"say {number}"}, {"role": "assistant", "content": "so"}]}
            for number in range(first, first + 12)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "data" / f"{name}.jsonl").write_text(text, encoding="utf-8")
    path = tmp_path / "openai.yaml"
    path.write_text(find_exporter("openai").export(plan())[0].text, encoding="utf-8")
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["openai", *map(str, words)])


def test_a_job_is_started_watched_and_stopped(fake: Fake, job: Path) -> None:
    started = run("start", job, "--yes", "--endpoint", fake.url, "--json")
    assert started.exit_code == 0, started.output
    name = json.loads(started.stdout)["job"]["id"]
    told = fake.jobs[name]
    assert told["method"] == {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": "auto"}},
    }
    assert (told["seed"], told["suffix"]) == (0, "sort-em-all-31m")
    sent = [fake.files[told[side]].decode() for side in ("training_file", "validation_file")]
    assert sent == [(job.parent / "data" / f"{side}.jsonl").read_text() for side in ("train", "validation")]
    assert fake.keys == {f"Bearer {KEY}"}
    status = run("status", name, "--endpoint", fake.url)
    assert "succeeded" in status.stdout
    assert "tuned model: ft:tuned" in status.stdout
    assert "trained tokens: 1,234" in status.stdout
    events = run("events", name, "--endpoint", fake.url)
    assert [line.split()[-1].split("\\")[0][:1] for line in events.stdout.splitlines()] == ["1", "2"], "oldest first"
    assert "\x1b" not in events.stdout
    assert json.loads(run("cancel", name, "--endpoint", fake.url, "--json").stdout)["job"]["status"] == "cancelled"


def test_without_yes_nothing_is_sent(fake: Fake, job: Path) -> None:
    told = run("start", job, "--endpoint", fake.url)
    assert told.exit_code == 0
    assert "Nothing was sent" in told.stdout
    assert "$" in told.stdout
    assert f"openai start {job} --endpoint {fake.url} --yes" in told.stdout, "to no other address"
    assert not fake.keys
    refused = run("start", job, "--endpoint", "https://user:word@127.0.0.1/v1")
    assert isinstance(refused.exception, FineTuneError)
    assert "word" not in f"{refused.output}{refused.exception}"


def test_what_the_service_says_is_passed_on_without_the_key(fake: Fake, job: Path) -> None:
    fake.fault = (401, f"Incorrect API key provided: {KEY}.")
    with pytest.raises(FineTuneError, match="FT-O06") as caught:
        Service(url=fake.url).start(read_job(job))
    assert "Incorrect API key provided: [key]" in str(caught.value)
    assert KEY not in str(caught.value)


def test_redirects_are_not_followed(fake: Fake, job: Path) -> None:
    fake.redirect = "http://127.0.0.1:9/v1/files"
    with pytest.raises(FineTuneError, match="FT-O06"):
        Service(url=fake.url).start(read_job(job))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/v1",
        "ftp://127.0.0.1/v1",
        "https://user:word@127.0.0.1/v1",
        "no address",
        "https:///v1",
        "https://[x",
        "http://localhost:99999/v1",
    ],
)
def test_only_https_or_this_machine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(FineTuneError, match=r"(?s)FT-O06.*neither https nor http to this machine") as caught:
        Service(url=url).status("ftjob-0")
    assert "word" not in str(caught.value)


def test_a_key_is_asked_for(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(FineTuneError, match=r"(?s)FT-O06.*there is no key"):
        Service(url=fake.url).status("ftjob-0")


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *_, **__: 0.0)
    with pytest.raises(FineTuneError, match=r"(?s)FT-O06.*Connection"):
        Service(url="http://127.0.0.1:9/v1").status("ftjob-0")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("training_file: data/train.jsonl", "training_file: data/none.jsonl"), "FT-D07"),
        (("seed: 0", "colour: red"), r"(?s)FT-O05.*colour is none of"),
        (("model: gpt", "# model: gpt"), r"(?s)FT-O05.*names no model"),
        (("validation_file: data/validation.jsonl", "validation_file: data/train.jsonl"), r"(?s)FT-O05.*in both files"),
    ],
)
def test_a_job_that_cannot_be_is_refused(job: Path, change: tuple[str, str], why: str) -> None:
    job.write_text(job.read_text().replace(*change), encoding="utf-8")
    with pytest.raises(FineTuneError, match=why):
        read_job(job)


def test_check_leaves_with_3_where_a_rule_is_broken(job: Path) -> None:
    path = job.parent / "data" / "train.jsonl"
    assert run("check", path, job.parent / "data" / "validation.jsonl").exit_code == 0
    path.write_text(path.read_text() + '{"messages": []}\n', encoding="utf-8")
    checked = run("check", path, "--json")
    assert checked.exit_code == 3
    assert json.loads(checked.stdout)["files"][0]["faults"] == [
        {"line": 13, "code": "no_messages", "message": "there is no list 'messages' with turns in it"}
    ]
