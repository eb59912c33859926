"""System calls that fail: requests are answered, refused or cut, never answered wrongly, and it passes."""

import socket
import subprocess
import time
from http.client import HTTPException

import harness

# (calls, fault): what strace makes of the nth of them.
CONNECTIONS = [
    ("accept4", "error=EMFILE"),
    ("accept4", "error=ENFILE"),
    ("accept4", "error=ECONNABORTED"),
    ("accept4", "error=ENOMEM"),
    ("accept4", "error=EINTR"),
    ("read", "error=EINTR"),
    ("read", "error=ECONNRESET"),
    ("read", "error=EAGAIN"),
    ("write", "error=EINTR"),
    ("write", "error=EAGAIN"),
    ("write", "error=EPIPE"),
    ("write", "error=ECONNRESET"),
    ("epoll_wait", "error=EINTR"),
    ("epoll_ctl", "error=ENOMEM"),
    ("epoll_ctl", "error=ENOSPC"),
    ("setsockopt", "error=ENOBUFS"),
    ("openat", "error=EMFILE"),
    ("mmap", "error=ENOMEM"),
]
TIMES = [1, 2, 7, 50]
# What a quick run has time for: every call once, the rare times left out.
QUICK = [("accept4", "error=EMFILE", 2), ("read", "error=ECONNRESET", 7), ("write", "error=EPIPE", 2), ("epoll_wait", "error=EINTR", 7), ("epoll_ctl", "error=ENOMEM", 2)]  # fmt: skip

GOLDEN = {"user_id": "demo-scifi-1", "n": 3, "now": harness.NOW, "degrade": "never", "deadline_ms": 10_000}


class Faults(harness.Case):
    def tracer(self, daemon: harness.Daemon, call: str, fault: str, nth: int):
        """Attached to a daemon that runs: the nth call of every thread from now on fails."""
        tracer = subprocess.Popen(
            ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={nth}",
             "-p", str(daemon.process.pid)],
            stderr=subprocess.PIPE,
        )  # fmt: skip
        # It says so once it is attached.
        tracer.stderr.readline()
        return tracer

    def ask(self, daemon: harness.Daemon, expected: dict) -> str:
        """How one request ends, which must be one of the ways there are."""
        try:
            answer = daemon.post(GOLDEN)
        except (OSError, HTTPException):
            return "cut"
        if answer.status == 200:
            items = [(i["item_id"], i["score"]) for i in answer.json["items"]]
            self.assertEqual(items, expected, "another answer")
            return "answered"
        self.assertIn(answer.status, {500, 503}, answer.body)
        return "refused"

    def shake(self, daemon: harness.Daemon, expected: dict, call: str, fault: str, nth: int, requests: int) -> None:
        """Requests on new and on kept connections while a call fails; all is well afterwards."""
        tracer = self.tracer(daemon, call, fault, nth)
        try:
            ends = [self.ask(daemon, expected) for _ in range(requests)]
            try:
                with socket.create_connection((daemon.host, daemon.port), timeout=5) as peer:
                    for _ in range(requests):
                        peer.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                        answer = harness.read_answer(peer)
                        if answer is None:
                            break
                        self.assertEqual((answer.status, answer.body), (200, b"ok\n"))
            except OSError:
                pass
        finally:
            tracer.terminate()
            tracer.wait()
            tracer.stderr.close()
        self.assertIsNone(daemon.process.poll(), f"died: {daemon.log_text()}")
        # Every thread meets its own nth call: several requests may suffer, most must not.
        self.assertGreater(ends.count("answered"), requests // 2, ends)
        limit = time.monotonic() + harness.patience()
        while self.ask(daemon, expected) != "answered":
            self.assertLess(time.monotonic(), limit, "not well again")
        self.assertEqual(daemon.get("/readyz").status, 200)

    def run_all(self, faults: list, requests: int) -> None:
        # Bytes that a call says are not there, or cannot be taken, are waited for: that ends in these times.
        daemon = self.start(
            "--header-timeout-ms", "1000", "--body-timeout-ms", "1000", "--write-timeout-ms", "1000",
            "--idle-timeout-ms", "2000", "--loops", "1", "--compute-threads", "1",
        )  # fmt: skip
        items = daemon.recommend(**GOLDEN)["items"]
        expected = [(i["item_id"], i["score"]) for i in items]
        for call, fault, nth in faults:
            with self.subTest(call=call, fault=fault, nth=nth):
                self.shake(daemon, expected, call, fault, nth, requests)

    def test_requests_while_system_calls_fail(self) -> None:
        self.run_all(QUICK, 8)

    def test_requests_while_any_system_call_fails_at_any_time(self) -> None:
        if not harness.FULL:
            self.skipTest("takes minutes: --full")
        self.run_all([(call, fault, nth) for call, fault in CONNECTIONS for nth in TIMES], 60)

    def test_a_start_that_cannot_have_its_threads_or_files_ends_with_a_reason(self) -> None:
        """It fails with a message, or serves; it never hangs or dies of a signal."""
        # The first thread is OpenBLAS's, which gives up on its own before the daemon begins.
        cases = [("clone3", "error=EAGAIN", 2), ("eventfd2", "error=EMFILE", 2)]
        if harness.FULL:
            cases += [(call, fault, nth) for call, fault in
                      [("clone3", "error=EAGAIN"), ("socket", "error=EMFILE"), ("bind", "error=EACCES"),
                       ("listen", "error=EADDRINUSE"), ("eventfd2", "error=ENOMEM")]
                      for nth in [1, 2, 3] if (call, nth) != ("clone3", 1)]  # fmt: skip
        if harness.SLOW:
            # A sanitizer may begin with threads of its own.
            cases = [case for case in cases if case[0] != "clone3"]
        for call, fault, nth in cases:
            with self.subTest(call=call, fault=fault, nth=nth):
                under = ("strace", "-D", "-f", "-o", "/dev/null", "-e", f"trace={call}",
                         "-e", f"inject={call}:{fault}:when={nth}")  # fmt: skip
                try:
                    daemon = harness.Daemon(under=under, wait=False)
                except AssertionError as refused:
                    self.assertIn("exit 1", str(refused))
                    continue
                limit = time.monotonic() + harness.patience()
                code = None
                while time.monotonic() < limit and (code := daemon.process.poll()) is None:
                    try:
                        if daemon.get("/readyz").status == 200:
                            break
                    except (OSError, HTTPException):
                        pass
                    time.sleep(0.05)
                daemon.stop()
                self.assertIn(code, {None, 1}, daemon.log_text() if code else "")

    def test_descriptors_run_out_and_come_back(self) -> None:
        daemon = self.start(under=("prlimit", "--nofile=96:96"))
        peers = []
        try:
            for _ in range(150):
                peer = socket.create_connection((daemon.host, daemon.port), timeout=5)
                peers.append(peer)
            # No descriptor is left, and no place for another connection; those that are there go on.
            peers[0].sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(harness.read_answer(peers[0]).status, 200)
        finally:
            for peer in peers:
                peer.close()
        limit = time.monotonic() + harness.patience()
        while True:
            try:
                if daemon.get("/livez").status == 200:
                    break
            except (OSError, HTTPException):
                self.assertLess(time.monotonic(), limit)
                time.sleep(0.05)
