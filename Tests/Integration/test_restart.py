"""Draining, reloading and handing over to a new process: nobody notices; what the service manager is told."""

import contextlib
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest
import uuid
from pathlib import Path
from typing import Any, Callable, Iterator

import harness
from test_traces import until

ASK = json.dumps({"user_id": "demo-scifi-1", "n": 3, "now": harness.NOW, "deadline_ms": 10_000}).encode()
JSON = {"Content-Type": "application/json"}


class Manager:
    """A service manager: the socket that daemons notify, in a folder or abstract."""

    def __init__(self, is_abstract: bool = False) -> None:
        name = f"recserver-{uuid.uuid4().hex}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = "@" + name if is_abstract else str(harness.SCRATCH / name)
        self.socket.bind("\0" + name if is_abstract else self.address)
        self.socket.setblocking(False)
        self.received: list[dict[str, str]] = []

    def read(self) -> list[dict[str, str]]:
        """All messages so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                text = self.socket.recv(4096).decode()
                self.received.append(dict(line.split("=", 1) for line in text.split("\n")))
        return self.received

    def count(self, name: str) -> int:
        return sum(name in message for message in self.read())

    def order(self) -> list[str]:
        """READY, RELOADING and STOPPING as they came."""
        names = ("READY", "RELOADING", "STOPPING")
        return [name for message in self.read() for name in names if name in message]

    @property
    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address}


class Clients:
    """Keep-alive clients that ask all the time, and post events; an answer that does not come is a failure."""

    def __init__(self, daemon: harness.Daemon, count: int = 4, posts: bool = False) -> None:
        self.daemon, self.posts = daemon, posts
        self.failures: list[str] = []
        self.answers = 0
        self.closed = 0
        self.acknowledged: list[tuple[str, str]] = []
        self.ends = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, index: int) -> None:
        connection = http.client.HTTPConnection(self.daemon.host, self.daemon.port, timeout=harness.patience())
        number = 0
        while not self.ends.is_set():
            number += 1
            user, event = f"user-{index}", f"event-{index}-{number}"
            try:
                if self.posts and number % 2:
                    body = {"user_id": user, "item_id": "film-00001", "action": "watch", "event_id": event}
                    connection.request("POST", "/events", json.dumps(body), JSON)
                else:
                    connection.request("POST", "/recommend", ASK, JSON)
                answer = connection.getresponse()
                text = answer.read()
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
                continue
            with self.lock:
                self.answers += 1
                if answer.status != 200:
                    self.failures.append(f"{answer.status} {text[:200]!r}")
                elif self.posts and number % 2:
                    self.acknowledged.append((user, event))
            if answer.headers.get("Connection") == "close":
                self.closed += 1
        connection.close()

    def wait(self, answers: int) -> None:
        goal = self.answers + answers
        until(lambda: self.answers >= goal)

    def stop(self) -> None:
        self.ends.set()
        for thread in self.threads:
            thread.join()


@contextlib.contextmanager
def asking(test: unittest.TestCase, daemon: harness.Daemon, **options: Any) -> Iterator[Clients]:
    clients = Clients(daemon, **options)
    try:
        clients.wait(20)
        yield clients
        clients.wait(20)
    finally:
        clients.stop()
    test.assertEqual(clients.failures[:5], [], daemon.log_text())


def process_lines(daemon: harness.Daemon) -> list[Any]:
    return [json.loads(line) for line in Path(daemon.log.name).read_text().splitlines() if line.startswith("{")]


def has_ended(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


class Upgrading(harness.Case):
    def launch(self, *flags: str, program: Path | None = None, **options: Any) -> harness.Daemon:
        """A daemon whose successors end with this case."""
        if program is not None:
            original, harness.BINARY = harness.BINARY, str(program)
        try:
            daemon = harness.Daemon("--drain-limit-ms", "60000", *flags, **options)
        finally:
            if program is not None:
                harness.BINARY = original
        self.addCleanup(self.end_all, daemon)
        return daemon

    def successors(self, daemon: harness.Daemon) -> list[int]:
        return [int(line["pid"]) for line in process_lines(daemon) if line["message"] == "the new process serves"]

    def end_all(self, daemon: harness.Daemon) -> None:
        for pid in self.successors(daemon):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            until(lambda: has_ended(pid))
        daemon.stop()

    def upgrade(self, daemon: harness.Daemon, pid: int) -> int:
        """Has the process replaced; the new one's id."""
        count = len(self.successors(daemon))
        os.kill(pid, signal.SIGUSR2)
        until(lambda: len(self.successors(daemon)) > count)
        return self.successors(daemon)[-1]

    def test_no_request_fails_and_no_event_is_lost(self) -> None:
        state = harness.SCRATCH / f"upgrade-{uuid.uuid4().hex}"
        manager = Manager()
        daemon = self.launch(
            "--state-dir", str(state), "--loops", "2", "--admin-port", "0", environment=manager.environment
        )
        first = daemon.events({"user_id": "user-0", "item_id": "film-00002", "action": "watch", "event_id": "old"})
        token = first["token"]
        with asking(self, daemon, posts=True) as clients:
            second = self.upgrade(daemon, daemon.process.pid)
            clients.wait(20)
            self.assertEqual(daemon.process.wait(harness.patience()), 0, daemon.log_text())
            daemon.is_ending = True
            clients.wait(20)
            # What the first process acknowledged is known to the second, by the same tokens.
            answer = daemon.recommend(user_id="user-0", n=1, min_sequence=token)
            self.assertGreaterEqual(answer["history"]["events"] + answer["history"]["unknown"], 1)
            third = self.upgrade(daemon, second)
            until(lambda: has_ended(second))
            clients.wait(20)
        self.assertEqual(len({daemon.process.pid, second, third}), 3)
        for index in range(4):
            kept = [e["event_id"] for e in daemon.user(f"user-{index}")["events"]]
            acknowledged = [e for u, e in clients.acknowledged if u == f"user-{index}"][-900:]
            self.assertEqual([e for e in acknowledged if e not in set(kept)], [])
            self.assertEqual(len(kept), len(set(kept)))
        # The service manager is told whom to look at, before the new process speaks.
        mains = [m["MAINPID"] for m in manager.read() if "MAINPID" in m]
        self.assertEqual(mains, [str(p) for p in (daemon.process.pid, second, second, third, third)])
        self.assertEqual(manager.count("STOPPING"), 0)
        # Nobody else can have the folder, before and after.
        done = harness.run("serve", "--bundle", str(harness.DEMO), "--port", "0", "--state-dir", str(state))
        self.assertNotEqual(done.returncode, 0)
        os.kill(third, signal.SIGTERM)
        until(lambda: has_ended(third))
        done = harness.run("state", "verify", "--state-dir", str(state))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_kind_of_listener_is_handed_over(self) -> None:
        path = str(harness.SCRATCH / f"{uuid.uuid4().hex[:8]}.sock")
        opened = socket.create_server(("127.0.0.1", 0), backlog=64)
        # As systemd does: descriptor 3, for the process that is started.
        shell = 'exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec "$@"'
        daemon = harness.Daemon.__new__(harness.Daemon)
        daemon.log = open(harness.SCRATCH / f"{uuid.uuid4().hex}.log", "w+b")
        daemon.process = subprocess.Popen(
            ["sh", "-c", shell, "sh", harness.BINARY, "serve", "--bundle", str(harness.DEMO), "--unix-socket", path,
             "--index-cache", str(harness.SCRATCH / "indexes")],
            stdin=opened, stdout=subprocess.PIPE, stderr=daemon.log, env=harness.clean_environment(),
        )  # fmt: skip
        daemon.host, daemon.port, daemon.is_ending = *opened.getsockname(), False
        opened.close()
        self.addCleanup(self.end_all, daemon)
        daemon.wait_until_ready()

        def ask_socket() -> bytes:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(path)
                peer.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                return peer.makefile("rb").read()

        pid = daemon.process.pid
        for _ in range(2):
            with asking(self, daemon):
                old, pid = pid, self.upgrade(daemon, pid)
                until(lambda: has_ended(old))
                daemon.is_ending = True
            self.assertTrue(ask_socket().startswith(b"HTTP/1.1 200"))
        os.kill(pid, signal.SIGTERM)
        until(lambda: has_ended(pid))
        self.assertFalse(Path(path).exists())

    def test_a_new_process_that_fails_leaves_the_old_one_serving(self) -> None:
        folder = harness.SCRATCH / f"failing-{uuid.uuid4().hex}"
        folder.mkdir()
        program = folder / "recserver"
        program.symlink_to(Path(harness.BINARY).resolve())
        bundle = harness.copy_bundle(f"failing-{uuid.uuid4().hex}")
        daemon = self.launch(
            "--state-dir", str(folder / "state"), "--upgrade-timeout-s", "2", program=program, bundle=bundle
        )

        def fails(reason: str) -> None:
            count = self.failed(daemon)
            daemon.process.send_signal(signal.SIGUSR2)
            until(lambda: self.failed(daemon) > count)
            self.assertRegex(process_lines(daemon)[-1]["reason"], reason)

        with asking(self, daemon, posts=True):
            program.unlink()
            fails("errno: 2")
            program.write_bytes(os.urandom(4096))
            program.chmod(0o755)
            fails("errno: 8")
            program.write_text("#!/bin/sh\nexec sleep 60\n")
            fails("longer than")
            program.write_text("#!/bin/sh\nkill -9 $$\n")
            fails("has ended")
            program.unlink()
            program.symlink_to(Path(harness.BINARY).resolve())
            manifest = (bundle / "manifest.json").read_bytes()
            (bundle / "manifest.json").unlink()
            fails("has ended")
            (bundle / "manifest.json").write_bytes(manifest)
        self.assertEqual(daemon.get("/readyz").status, 200)
        self.assertIn(b"recserver_upgrades_failed_total 5", daemon.get("/metrics").body)
        children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
        self.assertEqual(children.read_text(), "")
        with asking(self, daemon, posts=True):
            self.upgrade(daemon, daemon.process.pid)
            self.assertEqual(daemon.process.wait(harness.patience()), 0, daemon.log_text())
            daemon.is_ending = True

    def failed(self, daemon: harness.Daemon) -> int:
        return sum(line["message"].startswith("the upgrade failed") for line in process_lines(daemon))

    def test_a_stop_ends_an_upgrade_under_way(self) -> None:
        program = harness.SCRATCH / f"sleeper-{uuid.uuid4().hex}"
        program.symlink_to(Path(harness.BINARY).resolve())
        daemon = self.launch(program=program)
        program.unlink()
        program.write_text("#!/bin/sh\nexec sleep 60\n")
        program.chmod(0o755)
        daemon.process.send_signal(signal.SIGUSR2)
        until(lambda: any(line["message"] == "a new process loads" for line in process_lines(daemon)))
        child = next(int(l["pid"]) for l in process_lines(daemon) if l["message"] == "a new process loads")
        daemon.stop(self)
        self.assertTrue(has_ended(child))

    @unittest.skipUnless(shutil.which("wrk"), "wrk is not installed")
    def test_wrk_sees_no_error_through_reload_and_upgrade(self) -> None:
        script = harness.SCRATCH / "ask.lua"
        script.write_text(
            f"wrk.method = 'POST'\nwrk.body = [[{ASK.decode()}]]\nwrk.headers['Content-Type'] = 'application/json'\n"
        )
        daemon = self.launch("--loops", "2")
        wrk = subprocess.Popen(
            ["wrk", "-c16", "-t1", "-d4s", "-s", str(script), f"http://{daemon.host}:{daemon.port}/recommend"],
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(0.5)
        daemon.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        self.upgrade(daemon, daemon.process.pid)
        self.assertEqual(daemon.process.wait(harness.patience()), 0, daemon.log_text())
        daemon.is_ending = True
        out, _ = wrk.communicate()
        self.assertEqual(wrk.returncode, 0)
        self.assertNotIn("Socket errors", out)
        self.assertNotIn("Non-2xx", out)
        self.assertGreater(int(re.search(r"(\d+) requests in", out)[1]), 20)


class Draining(harness.Case):
    def test_sigterm_under_load_fails_no_request_that_was_sent(self) -> None:
        manager = Manager(is_abstract=True)
        daemon = self.start(
            "--drain-delay-ms", "1500", "--drain-limit-ms", "60000", environment=manager.environment
        )
        clients = Clients(daemon)
        clients.wait(20)
        probe = http.client.HTTPConnection(daemon.host, daemon.port, timeout=harness.patience())
        probe.request("GET", "/readyz")
        self.assertEqual(probe.getresponse().read(), b"ok\n")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.is_ending = True
        until(lambda: manager.count("STOPPING"))
        probe.request("GET", "/readyz")
        answer = probe.getresponse()
        answer.read()
        # At once 503, and served on, on this connection and on new ones.
        self.assertEqual((answer.status, answer.headers.get("Connection")), (503, None))
        clients.wait(20)
        self.assertEqual(daemon.post(ASK).status, 200)
        self.assertEqual(clients.closed, 0)
        self.assertEqual(daemon.process.wait(harness.patience()), 0, daemon.log_text())
        clients.stop()
        # After that nobody is there to be asked; every request that got through was answered.
        kinds = {failure.split(":")[0] for failure in clients.failures}
        self.assertLessEqual(kinds, {"ConnectionRefusedError"}, clients.failures[:5])
        self.assertGreaterEqual(clients.closed, 1)
        self.assertEqual(manager.order(), ["READY", "STOPPING"])

    def test_each_further_sigterm_cuts_a_wait_short(self) -> None:
        daemon = harness.Daemon("--drain-delay-ms", "600000", "--drain-limit-ms", "600000")
        # In the middle of its head for the longest time.
        with socket.create_connection((daemon.host, daemon.port)) as peer:
            peer.sendall(b"POST /recommend HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
            self.assertEqual(daemon.get("/livez").status, 200)
            daemon.process.send_signal(signal.SIGTERM)
            until(lambda: daemon.get("/readyz").status == 503)
            daemon.process.send_signal(signal.SIGTERM)

            def refused() -> bool:
                try:
                    return daemon.get("/livez").status != 200
                except OSError:
                    return True

            until(refused)
            self.assertIsNone(daemon.process.poll())
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.process.wait(harness.patience()), 1)
        daemon.is_ending = True
        daemon.stop()


class Notifying(harness.Case):
    def test_the_service_manager_hears_what_happens_in_order(self) -> None:
        manager = Manager()
        daemon = self.start(environment=manager.environment)
        until(lambda: manager.count("READY"))
        ready = next(m for m in manager.read() if "READY" in m)
        self.assertEqual((ready["READY"], ready["MAINPID"]), ("1", str(daemon.process.pid)))
        self.assertIn("serving", ready["STATUS"])
        # While it loads it asks for time, as long as it gets on.
        self.assertIn("loading", manager.read()[0]["STATUS"])
        with asking(self, daemon):
            for count in (2, 3):
                daemon.process.send_signal(signal.SIGHUP)
                until(lambda: manager.count("READY") == count)
        reloading = [m for m in manager.read() if "RELOADING" in m]
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        for message in reloading:
            self.assertTrue(0 <= now - int(message["MONOTONIC_USEC"]) < 60_000_000)
        daemon.stop(self)
        self.assertEqual(
            manager.order(), ["READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING"]
        )
        self.assertEqual(manager.count("WATCHDOG"), 0)

    def test_the_watchdog_is_fed_until_a_loop_is_stuck(self) -> None:
        self.check_watchdog("loop-")

    def test_the_watchdog_is_fed_until_all_compute_threads_are_stuck(self) -> None:
        self.check_watchdog("compute-")

    def check_watchdog(self, thread: str) -> None:
        manager = Manager()
        interval = 2_000_000 if harness.SLOW else 400_000
        daemon = self.start(
            "--compute-threads", "1", "--loops", "2",
            environment=manager.environment | {"WATCHDOG_USEC": str(interval)},
        )  # fmt: skip
        until(lambda: manager.count("WATCHDOG") >= 2)
        tasks = Path(f"/proc/{daemon.process.pid}/task").iterdir()
        stuck = next(int(t.name) for t in tasks if (t / "comm").read_text().startswith(thread))
        with stopped(stuck), contextlib.ExitStack() as open_:
            if thread == "compute-":
                # Nobody misses a thread for which there is no work.
                before = manager.count("WATCHDOG")
                until(lambda: manager.count("WATCHDOG") >= before + 2)
                for _ in range(3):
                    peer = open_.enter_context(socket.create_connection((daemon.host, daemon.port)))
                    head = f"POST /recommend HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(ASK)}\r\n\r\n"
                    peer.sendall(head.encode() + ASK)
            until(lambda: any(line["message"] == "the process is stuck" for line in process_lines(daemon)))
            before = manager.count("WATCHDOG")
            time.sleep(3 * interval / 1e6)
            self.assertEqual(manager.count("WATCHDOG"), before)
        until(lambda: manager.count("WATCHDOG") > before)


@contextlib.contextmanager
def stopped(thread: int) -> Iterator[None]:
    """Holds one thread of another process, as a debugger does."""
    libc = ctypes.CDLL(None, use_errno=True)
    seize, interrupt, detach = 0x4206, 0x4207, 17

    def ptrace(request: int) -> None:
        if libc.ptrace(request, thread, None, None) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    try:
        ptrace(seize)
    except PermissionError as error:
        raise unittest.SkipTest(f"ptrace: {error}")
    ptrace(interrupt)
    # __WALL: threads are no children.
    os.waitpid(thread, 0x40000000)
    try:
        yield
    finally:
        ptrace(detach)
