"""Erasure and compacting through kill -9 and a full disk: no byte of who was erased is left, nobody else is lost."""

import os
import random
import shutil
import subprocess
import threading
import time
from http.client import HTTPException
from pathlib import Path

import harness
from harness import BINARY, SCRATCH, Answer, clean_environment

MARKS = ("user", "item", "event", "slate", "taste")


def folder_of(name: str) -> Path:
    path = SCRATCH / f"erasure-{name}"
    shutil.rmtree(path, ignore_errors=True)
    return path


def marks(user: int) -> list[bytes]:
    return [f"<{mark}-{user}>".encode() for mark in MARKS]


def events(user: int, count: int = 30) -> list[dict]:
    """Events of a user that all bear the user's marks."""
    return [{"user_id": f"<user-{user}>", "item_id": f"<item-{user}>-{n}", "event_id": f"<event-{user}>-{n}",
             "recommendation_id": f"<slate-{user}>"} for n in range(count)]  # fmt: skip


def left(folder: Path, users: list[int]) -> list[bytes]:
    """Marks of users that stand in any file."""
    data = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return [mark for user in users for mark in marks(user) if mark in data]


def erase(daemon: harness.Daemon, user: int) -> Answer:
    return daemon.request("DELETE", f"/users/%3Cuser-{user}%3E")


class Erasure(harness.Case):
    def fill(self, daemon: harness.Daemon, users: range) -> None:
        # Several users a request, so that their rows share pages.
        for start in range(0, 30, 10):
            daemon.events(*(event for user in users for event in events(user)[start : start + 10]))
        for user in users:
            answer = daemon.send("PUT", f"/users/%3Cuser-{user}%3E", {"features": {"likes": f"<taste-{user}>"}})
            self.assertEqual(answer.status, 200)

    def test_an_acknowledged_erasure_outlives_kill_9(self) -> None:
        folder = folder_of("acknowledged")
        erased: list[int] = []
        for number in range(25 if harness.FULL else 3):
            daemon = harness.Daemon("--state-dir", str(folder))
            users = range(number * 8, number * 8 + 8)
            self.fill(daemon, users)
            # Others go on posting.
            stop = threading.Event()

            def post(daemon: harness.Daemon = daemon, stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    try:
                        daemon.send("POST", "/events", {"user_id": "other", "item_id": "film-00001"})
                    except (OSError, HTTPException):
                        return

            poster = threading.Thread(target=post)
            poster.start()
            try:
                for user in random.Random(number).sample(users, 3):
                    self.assertEqual(erase(daemon, user).status, 204)
                    erased.append(user)
            finally:
                daemon.process.kill()
                stop.set()
                poster.join()
            daemon.stop()
            self.assertEqual(left(folder, erased), [])
        daemon = self.start("--state-dir", str(folder))
        for user in range(number * 8 + 8):
            answer = daemon.get(f"/users/%3Cuser-{user}%3E")
            self.assertEqual(answer.status, 404 if user in erased else 200)
            self.assertTrue(user in erased or answer.json["total"] == 30)
        self.assertEqual(left(folder, erased), [])

    def test_an_erasure_that_was_cut_short_is_whole_or_not_there(self) -> None:
        folder = folder_of("cut")
        choice = random.Random(3)
        for number in range(40 if harness.FULL else 3):
            daemon = harness.Daemon("--state-dir", str(folder))
            self.fill(daemon, range(number * 2, number * 2 + 2))
            thread = threading.Thread(target=lambda d=daemon, u=number * 2: self.quietly(lambda: erase(d, u)))
            thread.start()
            time.sleep(choice.random() * 0.01)
            daemon.process.kill()
            thread.join()
            daemon.stop()
            daemon = harness.Daemon("--state-dir", str(folder))
            answer = daemon.get(f"/users/%3Cuser-{number * 2}%3E")
            self.assertIn(answer.status, (200, 404))
            if answer.status == 200:
                self.assertEqual(answer.json["total"], 30)
            else:
                self.assertEqual(left(folder, [number * 2]), [])
            self.assertEqual(daemon.user(f"<user-{number * 2 + 1}>")["total"], 30)
            daemon.stop(self)

    @staticmethod
    def quietly(call) -> None:
        try:
            call()
        except (OSError, HTTPException):
            pass

    # Compacting

    def exported(self, folder: Path) -> str:
        done = harness.run("state", "export", "--state-dir", str(folder))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_compacting_that_is_killed_loses_nothing_and_brings_nobody_back(self) -> None:
        folder = folder_of("compact")
        daemon = harness.Daemon("--state-dir", str(folder))
        for start in range(0, 240, 24):
            self.fill(daemon, range(start, start + 24))
        erased = list(range(0, 240, 3))
        for user in erased:
            self.assertEqual(erase(daemon, user).status, 204)
        daemon.stop(self)
        before = self.exported(folder)
        self.assertEqual(before.count('"type":"user"'), 160)
        began = time.monotonic()
        whole = folder_of("compact-whole")
        shutil.copytree(folder, whole)
        command = [BINARY, "state", "compact", "--state-dir"]
        subprocess.run([*command, str(whole)], check=True, capture_output=True, env=clean_environment())
        seconds = time.monotonic() - began
        for number in range(60 if harness.FULL else 4):
            copy = folder_of("compact-copy")
            shutil.copytree(folder, copy)
            process = subprocess.Popen([*command, str(copy)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       env=clean_environment())  # fmt: skip
            time.sleep(seconds * (number + 1) / (61 if harness.FULL else 5))
            process.kill()
            process.wait()
            done = harness.run("state", "verify", "--state-dir", str(copy))
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertEqual(self.exported(copy), before)
            self.assertEqual(left(copy, erased), [])
            done = harness.run("state", "compact", "--state-dir", str(copy))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.exported(copy), before)
            # The log is what reading leaves behind: empty.
            names = {p.name: p.stat().st_size for p in copy.iterdir()}
            self.assertLessEqual(set(names), {"state.db", "lock", "state.db-wal", "state.db-shm"})
            self.assertEqual(names.get("state.db-wal", 0), 0)

    # A full disk

    def test_tools_on_a_full_disk_say_so_and_go_on_when_there_is_room(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("mounting needs root")
        disk = folder_of("disk")
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True).returncode:
            self.skipTest("no tmpfs can be mounted here")
        self.addCleanup(subprocess.run, ["umount", str(disk)])
        lately = int(time.time()) - 1000
        lines = "".join(
            f'{{"type":"event","user_id":"u{n % 200}","item_id":"film-{n:05}","timestamp":{lately},"event_id":"e{n}"}}\n'
            for n in range(12_000)
        )
        source = SCRATCH / "erasure-disk.jsonl"
        source.write_text(lines)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(2_600_000))
        folder = disk / "state"

        def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
            return harness.run("state", *arguments, "--state-dir", str(folder))

        done = tool("import", "--in", str(source))
        self.assertEqual(done.returncode, 1)
        self.assertIn("full", done.stderr)
        self.assertEqual(tool("verify").returncode, 0)
        ballast.unlink()
        # What was taken before is not taken twice.
        self.assertEqual(tool("import", "--in", str(source)).returncode, 0)
        before = self.exported(folder)
        self.assertEqual(before.count('"type":"event"'), 12_000)
        free = shutil.disk_usage(disk).free
        ballast.write_bytes(bytes(max(free - 100_000, 0)))
        for arguments in (["compact"], ["backup", "--out", str(disk / "copy")], ["export", "--out", str(disk / "out")]):
            done = tool(*arguments)
            self.assertEqual(done.returncode, 1, arguments)
            self.assertRegex(done.stderr, "full|No space left|are free", arguments)
        self.assertFalse((disk / "copy").exists())
        self.assertEqual(tool("verify").returncode, 0)
        ballast.unlink()
        (disk / "out").unlink(missing_ok=True)
        self.assertEqual(self.exported(folder), before)


if __name__ == "__main__":
    harness.unittest.main()
