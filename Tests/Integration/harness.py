"""Starts daemons on free ports, talks to them, and reads and damages bundles."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("RECSERVER_BINARY", str(ROOT / ".build/release/recserver"))
DEMO = ROOT / "deploy/demo-bundle"

FULL = False
SLOW = False

scratch = tempfile.TemporaryDirectory(prefix="recserver-test-")
SCRATCH = Path(scratch.name)
NOW = 1_777_000_000


def patience() -> float:
    """Seconds that something which should take one may take."""
    return 300 if SLOW else 60


@dataclass
class Answer:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        """The last part of a problem's type."""
        return self.json["type"].removeprefix("urn:recserver:problem:")


class Daemon:
    """A running daemon; stopped by its process id."""

    def __init__(
        self,
        *flags: str,
        bundle: Path = DEMO,
        wait: bool = True,
        environment: dict[str, str] | None = None,
        under: tuple[str, ...] = (),
    ) -> None:
        index = SCRATCH / "indexes"
        index.mkdir(exist_ok=True)
        self.log = tempfile.NamedTemporaryFile(dir=SCRATCH, suffix=".log", delete=False)
        self.process = subprocess.Popen(
            [*under, BINARY, "serve", "--bundle", str(bundle), "--port", "0", "--index-cache", str(index), *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=clean_environment(environment, traced=bool(under)),
        )
        line = self.process.stdout.readline().decode()
        match = re.search(r"http://([\d.]+):(\d+)", line)
        if not match:
            self.process.wait()
            raise AssertionError(
                f"no port in {line!r}; exit {self.process.returncode}; log: {self.log_text()}"
            )
        self.host, self.port = match[1], int(match[2])
        # Set by a case that has sent the signal itself.
        self.is_ending = False
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        limit = time.monotonic() + patience()
        while time.monotonic() < limit:
            if self.process.poll() is not None:
                raise AssertionError(f"exit {self.process.returncode} before it was ready: {self.log_text()}")
            if self.get("/readyz").status == 200:
                return
            time.sleep(0.02)
        raise AssertionError(f"not ready in {patience()} s: {self.log_text()}")

    def log_text(self) -> str:
        return Path(self.log.name).read_text(errors="replace")[-4000:]

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=patience())
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, body: Any, **headers: str) -> Answer:
        """POST /recommend of an object, or of bytes as they are."""
        return self.send("POST", "/recommend", body, **headers)

    def send(self, method: str, path: str, body: Any, **headers: str) -> Answer:
        """A request with a JSON body, or with bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return self.request(method, path, data, {"Content-Type": "application/json"} | named)

    def events(self, *events: Any, **headers: str) -> Any:
        """The answer to events that must be taken."""
        answer = self.send("POST", "/events", list(events), **headers)
        if answer.status != 200:
            raise AssertionError(f"{answer.status} {answer.body[:500]!r}")
        return answer.json

    def user(self, user: str) -> Any:
        """What is held of a user, which must be something."""
        answer = self.get("/users/" + quote(user, safe=""))
        if answer.status != 200:
            raise AssertionError(f"{answer.status} {answer.body[:500]!r}")
        return answer.json

    def recommend(self, **request: Any) -> Any:
        """The answer to a request that must succeed in full."""
        answer = self.post({"now": NOW, "degrade": "never", "deadline_ms": 10_000} | request)
        if answer.status != 200:
            raise AssertionError(f"{answer.status} {answer.body[:500]!r} for {str(request)[:500]}")
        return answer.json

    def similar(self, item: str, query: str = "") -> Any:
        answer = self.get(f"/similar/{quote(item, safe='')}{query}")
        if answer.status != 200:
            raise AssertionError(f"{answer.status} {answer.body[:500]!r}")
        return answer.json

    def raw(self, data: bytes, ends: bool = False, seconds: float = 10) -> Answer | None:
        """Sends bytes as they are and reads one answer; None where the server closes without a word.

        `ends` shuts the sending side down behind them. In less than one second no answer is insisted on.
        """
        with socket.create_connection((self.host, self.port), timeout=seconds) as peer:
            try:
                peer.sendall(data)
                if ends:
                    peer.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                return read_answer(peer)
            except TimeoutError:
                if seconds < 1:
                    return None
                raise

    def stop(self, test: unittest.TestCase | None = None) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None and not self.is_ending:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(patience())
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdout.close()
        self.log.close()
        if test is not None:
            test.assertEqual(code, 0, self.log_text())
        return code


def read_answer(peer: socket.socket) -> Answer | None:
    """One answer with a Content-Length from a socket."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            more = peer.recv(65536)
            if not more:
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        while len(body) < int(headers.get("content-length", 0)):
            more = peer.recv(65536)
            if not more:
                break
            body += more
    except ConnectionResetError:
        return None
    return Answer(int(lines[0].split()[1]), headers, body[: int(headers.get("content-length", 0))])


def clean_environment(extra: dict[str, str] | None = None, traced: bool = False) -> dict[str, str]:
    """Ours without settings of the daemon; of one that is traced leaks cannot be looked for."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RECSERVER_")}
    if traced and "ASAN_OPTIONS" in kept:
        kept["ASAN_OPTIONS"] += ":detect_leaks=0"
    return kept | (extra or {})


def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The daemon's command line, to its end."""
    return subprocess.run(
        [BINARY, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=4 * patience(),
        stdin=subprocess.DEVNULL,
        env=clean_environment(environment),
    )


shared_daemon: Daemon | None = None


def shared() -> Daemon:
    """The daemon on the demo bundle that most cases use; when it has died, the next case gets a new one."""
    global shared_daemon
    if shared_daemon is not None and shared_daemon.process.poll() is not None:
        dead, shared_daemon = shared_daemon, None
        raise AssertionError(f"the shared daemon died, exit {dead.process.returncode}: {dead.log_text()}")
    if shared_daemon is None:
        shared_daemon = Daemon("--deadline-ms", "10000", "--state-dir", str(SCRATCH / "state"))
    return shared_daemon


def end_shared(test: unittest.TestCase) -> None:
    if shared_daemon is None:
        raise unittest.SkipTest("no case used it")
    shared_daemon.stop(test)


class Case(unittest.TestCase):
    """A case that talks to the shared daemon and leaves it alive."""

    @property
    def daemon(self) -> Daemon:
        return shared()

    def tearDown(self) -> None:
        if shared_daemon is not None and shared_daemon.process.poll() is not None:
            shared()

    def start(self, *flags: str, **options: Any) -> Daemon:
        """A daemon of this case's own, which must end with code 0."""
        daemon = Daemon(*flags, **options)
        self.addCleanup(daemon.stop, self)
        return daemon

    def assert_close(self, ours: list[float], theirs: list[float], tolerance: float = 1e-5) -> None:
        """|a − b| ≤ tol·|b| + tol/10·rms(b)."""
        self.assertEqual(len(ours), len(theirs))
        rms = (sum(b * b for b in theirs) / max(1, len(theirs))) ** 0.5
        for a, b in zip(ours, theirs):
            self.assertLessEqual(abs(a - b), tolerance * abs(b) + tolerance / 10 * rms + 1e-12)


class Catalogue:
    """What the demo bundle's files say of its items and users, read without the server."""

    def __init__(self, bundle: Path) -> None:
        from safetensors.numpy import load_file

        self.manifest = json.loads((bundle / "manifest.json").read_text())
        self.tensors: dict[str, Any] = {}
        for name in self.manifest["files"]:
            if name.endswith(".safetensors"):
                self.tensors |= load_file(bundle / name)
        self.items = self.strings("item_ids")
        self.users = self.strings("user_ids")
        self.row = {item: row for row, item in enumerate(self.items)}

    def strings(self, name: str) -> list[str]:
        data = self.tensors[name + ".bytes"].tobytes()
        ends = self.tensors[name + ".offsets"].tolist()
        return [data[a:b].decode() for a, b in zip(ends, ends[1:])]

    @cache
    def words(self, attribute: str) -> list[list[str]]:
        """The values of a string attribute, item by item."""
        prefix = f"item.attr.{attribute}"
        dictionary = self.strings(prefix + ".dictionary")
        values, ends = self.tensors[prefix + ".values"].tolist(), self.tensors[prefix + ".offsets"].tolist()
        return [[dictionary[v] for v in values[a:b]] for a, b in zip(ends, ends[1:])]

    @cache
    def numbers(self, attribute: str) -> list[float | None]:
        prefix = f"item.attr.{attribute}"
        values = self.tensors[prefix + ".values"].tolist()
        present = self.tensors.get(prefix + ".present")
        return [v if present is None or present[i] else None for i, v in enumerate(values)]

    def history(self, user: str) -> list[dict[str, Any]]:
        """A user's starting history as events of a request."""
        row = self.users.index(user)
        ends = self.tensors["history.offsets"]
        span = slice(int(ends[row]), int(ends[row + 1]))
        actions = self.manifest["sequence"]["actions"]
        return [
            {"item_id": self.items[item], "action": actions[action], "timestamp": time_}
            for item, action, time_ in zip(
                self.tensors["history.items"][span].tolist(),
                self.tensors["history.actions"][span].tolist(),
                self.tensors["history.timestamps"][span].tolist(),
            )
        ]


@cache
def catalogue() -> Catalogue:
    return Catalogue(DEMO)


def copy_bundle(name: str, bundle: Path = DEMO) -> Path:
    """A copy to damage, without what the daemon keeps beside it."""
    target = SCRATCH / "bundles" / name
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(bundle, target, ignore=shutil.ignore_patterns(".*"))
    return target
