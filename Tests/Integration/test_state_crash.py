"""User state through kill -9, damaged files, power loss, a full disk and failing syncs."""

import itertools
import os
import random
import re
import shutil
import sqlite3
import struct
import subprocess
import tempfile
import time
from http.client import HTTPException
from pathlib import Path

import harness
from harness import NOW, SCRATCH

# As SQLite writes its log: https://www.sqlite.org/fileformat2.html#walformat
LOG_HEADER, FRAME_HEADER, PAGE = 32, 24, 4096
FRAME = FRAME_HEADER + PAGE
BLOCK = 512
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None

numbers = itertools.count()


def new_folder() -> Path:
    return SCRATCH / f"state-{next(numbers)}"


def event(number: int, user: str = "u") -> dict:
    item = f"film-{1 + number % 500:05}"
    return {"user_id": user, "item_id": item, "timestamp": NOW + number, "event_id": f"e-{number}"}


def recovered(folder: Path) -> list[str]:
    """Ids of all events in a state folder that no process has open; its files are sound."""
    connection = sqlite3.connect(f"{folder}/state.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [row[0] for row in connection.execute("SELECT event_id FROM event ORDER BY user, time, number")]
    finally:
        connection.close()


def post(daemon: harness.Daemon, number: int) -> int:
    """The status of one posted event; 0 where no answer comes."""
    try:
        return daemon.send("POST", "/events", event(number)).status
    except (OSError, HTTPException):
        return 0


class Crashes(harness.Case):
    """kill -9 at the nth write: what was acknowledged is there, nothing is there twice."""

    def crash(self, call: str, nth: int) -> bool:
        """Whether the daemon got as far as the nth call."""
        folder = new_folder()
        # -D: the process that is started is the daemon, not its tracer. With --seccomp-bpf no signal would come.
        under = ("strace", "-D", "-f", "-o", "/dev/null", "-e", f"trace={call}",
                 *[a for name in ("state.db", "state.db-wal", "state.db-journal") for a in ("-P", f"{folder}/{name}")],
                 "-e", f"inject={call}:signal=SIGKILL:when={nth}")  # fmt: skip
        acknowledged = []
        daemon = None
        try:
            daemon = harness.Daemon("--state-dir", str(folder), under=under)
        except (AssertionError, ConnectionError, HTTPException):
            pass  # It was killed while it made the files.
        if daemon is not None:
            posts = 2 * nth + 40  # A commit is one write and one sync.
            for number in range(posts):
                status = post(daemon, number)
                if status != 200:
                    break
                acknowledged.append(f"e-{number}")
            has_died = len(acknowledged) < posts
            daemon.process.kill()
            daemon.stop()
        else:
            has_died = True
        if (folder / "state.db").exists() and (folder / "state.db").stat().st_size > 0:
            copy = new_folder()
            shutil.copytree(folder, copy)
            ids = recovered(copy) if acknowledged else []
            self.assertEqual(len(ids), len(set(ids)), (call, nth))
            self.assertLessEqual(set(acknowledged), set(ids), (call, nth))
            shutil.rmtree(copy)
        if nth % (20 if harness.FULL else 4) == 1:
            self.restart(folder, acknowledged)
        shutil.rmtree(folder, ignore_errors=True)
        return has_died

    def restart(self, folder: Path, acknowledged: list[str]) -> None:
        """A daemon starts on what is there, and takes the same events again without counting one twice."""
        daemon = self.start("--state-dir", str(folder))
        for number in range(len(acknowledged)):
            result = daemon.events(event(number))["results"][0]
            self.assertEqual(result["status"], "duplicate", result)
        if acknowledged:
            ids = [e["event_id"] for e in daemon.user("u")["events"]]
            self.assertLessEqual(set(acknowledged), set(ids))
            self.assertEqual(len(ids), len(set(ids)))
        daemon.stop()

    def test_kill_9_at_every_write_loses_nothing(self) -> None:
        points = {
            "pwrite64": range(1, 501) if harness.FULL else (1, 9, 25, 62),
            "fdatasync": range(1, 101) if harness.FULL else (4, 17),
        }
        for call, places in points.items():
            for nth in places:
                with self.subTest(call=call, nth=nth):
                    self.assertTrue(self.crash(call, nth), "was not reached")


class Damage(harness.Case):
    """A log that ends early or has a wrong byte: all commits before that place are there."""

    def test_a_torn_log_keeps_what_stands_before_the_tear(self) -> None:
        folder = new_folder()
        daemon = harness.Daemon("--state-dir", str(folder))
        try:
            for number in range(16):
                self.assertEqual(post(daemon, number), 200)
        finally:
            daemon.process.kill()
            daemon.stop()
        database, log = ((folder / name).read_bytes() for name in ("state.db", "state.db-wal"))
        ends = [0]  # Where commits end.
        for start in range(LOG_HEADER, len(log) - FRAME + 1, FRAME):
            if struct.unpack(">I", log[start + 4 : start + 8])[0]:
                ends.append(start + FRAME)
        with tempfile.TemporaryDirectory(prefix="recserver-test-", dir=FAST) as place:
            path = Path(place)

            def count(log: bytes) -> int:
                for old in path.iterdir():
                    old.unlink()
                (path / "state.db").write_bytes(database)
                (path / "state.db-wal").write_bytes(log)
                connection = sqlite3.connect(path / "state.db")
                try:
                    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
                        return 0
                    return connection.execute("SELECT count(*) FROM event").fetchone()[0]
                finally:
                    connection.close()

            def expected(intact: int) -> int:
                return counts[max(end for end in ends if end <= intact)]

            counts = {end: count(log[:end]) for end in ends}
            self.assertEqual(counts[ends[-1]], 16)
            self.assertEqual(sorted(counts.values()), list(counts.values()))
            step = 1 if harness.FULL else 331
            for at in range(max(len(log) - 65536, 0), len(log), step):
                self.assertEqual(count(log[:at]), expected(at), f"cut at {at}")
                flipped = bytearray(log)
                flipped[at] ^= 1 << at % 8
                # A frame counts whole or not at all.
                frame = LOG_HEADER + (at - LOG_HEADER) // FRAME * FRAME
                self.assertEqual(count(bytes(flipped)), expected(frame), f"flipped at {at}")
        # The daemon says what it drops: bytes of the log, and the ends of commits among them.
        last = [end for end in ends if end < len(log)][-1]
        for at, commits in ((len(log) - 1, 1), (last, 0)):
            broken = new_folder()
            broken.mkdir()
            (broken / "state.db").write_bytes(database)
            (broken / "state.db-wal").write_bytes(log[:at])
            daemon = self.start("--state-dir", str(broken))
            self.assertEqual(daemon.user("u")["total"], 15)
            metrics = daemon.get("/metrics").body.decode()
            self.assertIn(f'recserver_state_log_dropped{{unit="commits"}} {commits}\n', metrics)
            self.assertIn(f'recserver_state_log_dropped{{unit="bytes"}} {at - last}\n', metrics)
            self.assertEqual("the log of the user state is damaged" in daemon.log_text(), commits > 0)


class PowerLoss(harness.Case):
    """Writes that no sync had confirmed may be lost in any combination."""

    def test_any_subset_of_unsynced_writes_may_be_lost(self) -> None:
        folder = new_folder()
        trace = SCRATCH / f"{folder.name}.trace"
        under = ("strace", "-D", "-f", "--seccomp-bpf", "-ttt", "-y", "-xx", "-s", "9999999", "-o", str(trace),
                 "-e", "trace=pwrite64,ftruncate,fdatasync,fsync",
                 "-P", f"{folder}/state.db", "-P", f"{folder}/state.db-wal")  # fmt: skip
        daemon = harness.Daemon("--state-dir", str(folder), under=under)
        acknowledged = []
        for number in range(40):
            self.assertEqual(post(daemon, number), 200)
            acknowledged.append((time.time(), f"e-{number}"))
        # An erasure moves the log into the database, and more follows.
        self.assertIn(daemon.request("DELETE", "/users/nobody").status, (204, 404))
        for number in range(40, 60):
            self.assertEqual(post(daemon, number), 200)
            acknowledged.append((time.time(), f"e-{number}"))
        daemon.process.kill()
        daemon.stop()
        operations = self.operations(trace, folder)
        self.assertGreater(len(operations), 100)
        choice = random.Random(16)
        first = next(i for i, o in enumerate(operations) if o[0] > acknowledged[0][0])
        for _ in range(3000 if harness.FULL else 150):
            cut = choice.randrange(first, len(operations) + 1)
            self.check(operations[:cut], acknowledged, choice)

    def operations(self, trace: Path, folder: Path) -> list[tuple[float, str, str, int, bytes]]:
        """Time, call, file, place and bytes of each call that succeeded."""
        found = []
        line = re.compile(
            r"\d+ +([\d.]+) (\w+)\(\d+<([^>]*)>(?:, \"([^\"]*)\"\.{0,3}, \d+)?(?:, (\d+))?\) += \d+$"
        )
        pending: dict[str, str] = {}
        for text in trace.read_text().splitlines():
            # Two threads at once: the call's end stands on a line of its own.
            thread = text.split(" ", 1)[0]
            if text.endswith("<unfinished ...>"):
                pending[thread] = text.removesuffix(" <unfinished ...>").removesuffix("<unfinished ...>")
                continue
            if resumed := re.match(r"\d+ +[\d.]+ <\.\.\. \w+ resumed>(.*)$", text):
                text = pending.pop(thread) + resumed[1]
            if not (match := line.match(text)):
                continue
            name = bytes.fromhex(match[3].replace("\\x", "")).decode() if match[3].startswith("\\x") else match[3]
            data = bytes.fromhex((match[4] or "").replace("\\x", ""))
            found.append((float(match[1]), match[2], Path(name).name, int(match[5] or 0), data))
        return found

    def check(self, operations: list, acknowledged: list, choice: random.Random) -> None:
        files: dict[str, bytearray] = {}
        unsynced: dict[str, list] = {}

        def apply(name: str, call: str, place: int, data: bytes) -> None:
            file = files.setdefault(name, bytearray())
            if call == "ftruncate":
                del file[place:]
                file.extend(bytes(place - len(file)))
            else:
                file.extend(bytes(max(place + len(data) - len(file), 0)))
                file[place : place + len(data)] = data

        for _, call, name, place, data in operations:
            if call in ("fdatasync", "fsync"):
                for write in unsynced.pop(name, []):
                    apply(name, *write)
            else:
                unsynced.setdefault(name, []).append((call, place, data))
        for name, writes in unsynced.items():
            kept = choice.random()
            for call, place, data in writes:
                # A disk writes blocks: of a long write some may be lost.
                for start in range(0, max(len(data), 1), BLOCK):
                    if choice.random() < kept:
                        apply(name, call, place + start, data[start : start + BLOCK])
        end = operations[-1][0]
        due = {id for at, id in acknowledged if at < end}
        with tempfile.TemporaryDirectory(prefix="recserver-test-", dir=FAST) as place:
            for name, data in files.items():
                (Path(place) / name).write_bytes(data)
            ids = recovered(Path(place))
        self.assertLessEqual(due, set(ids))
        self.assertEqual(len(ids), len(set(ids)))


class Faults(harness.Case):
    """A disk that is full or fails: recommending goes on, events are a 503, and it heals without a restart."""

    def fault(self, call: str, error: str, which: str) -> None:
        folder = new_folder()
        under = ("strace", "-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={call}",
                 "-P", f"{folder}/state.db", "-P", f"{folder}/state.db-wal",
                 "-e", f"inject={call}:error={error}:when={which}")  # fmt: skip
        daemon = harness.Daemon("--state-dir", str(folder), under=under)
        try:
            statuses = []
            acknowledged = []
            number = 0
            while number < 400 and not (503 in statuses and statuses[-1] == 200):
                answer = daemon.send("POST", "/events", event(number))
                statuses.append(answer.status)
                if answer.status == 200:
                    acknowledged.append(f"e-{number}")
                else:
                    self.assertEqual((answer.status, answer.kind), (503, "state-unavailable"))
                    self.assertIn("retry-after", answer.headers)
                    self.assertIn("recserver_state_up 0", daemon.get("/metrics").body.decode())
                    self.assertIn("[i]user_state failing", daemon.get("/readyz?verbose").body.decode())
                self.assertEqual(daemon.post({"user_id": "u", "n": 5, "now": NOW + 1000}).status, 200)
                number += 1
            self.assertIn(503, statuses)
            self.assertEqual(statuses[-1], 200, "did not heal")
            self.assertIn("recserver_state_up 1", daemon.get("/metrics").body.decode())
            held = [e["event_id"] for e in daemon.user("u")["events"]]
            self.assertLessEqual(set(acknowledged), set(held))
        finally:
            daemon.process.kill()
            daemon.stop()
        ids = recovered(folder)
        self.assertLessEqual(set(acknowledged), set(ids))
        self.assertEqual(len(ids), len(set(ids)))

    def test_a_full_disk_heals(self) -> None:
        self.fault("pwrite64", "ENOSPC", "60..75")

    def test_a_failing_write_heals(self) -> None:
        self.fault("pwrite64", "EIO", "61..64")

    def test_a_failing_sync_heals_and_nothing_unsynced_is_acknowledged(self) -> None:
        self.fault("fdatasync", "EIO", "6..9")

    def test_a_small_file_system_that_fills_up(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("mounting needs root")
        folder = new_folder()
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True).returncode:
            self.skipTest("no tmpfs can be mounted here")
        self.addCleanup(subprocess.run, ["umount", str(folder)])
        ballast = folder / "ballast"
        daemon = harness.Daemon("--state-dir", str(folder))
        try:
            ballast.write_bytes(bytes(500_000))
            statuses = [post(daemon, number) for number in range(200)]
            self.assertEqual(statuses[-1], 503)
            self.assertEqual(daemon.post({"user_id": "u", "n": 5, "now": NOW}).status, 200)
            ballast.unlink()
            self.assertEqual(post(daemon, 200), 200)
            held = {e["event_id"] for e in daemon.user("u")["events"]}
            self.assertLessEqual({f"e-{i}" for i, s in enumerate(statuses) if s == 200} | {"e-200"}, held)
        finally:
            daemon.stop(self)


def setUpModule() -> None:
    if shutil.which("strace") is None:
        raise AssertionError("strace is missing: deploy/setup test")
