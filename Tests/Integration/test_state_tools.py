"""`recserver state …`: what is exported, imported, verified, compacted and backed up."""

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import harness
from harness import BINARY, SCRATCH, clean_environment

SEED = 20_261_121
LATELY = int(time.time()) - 86_400
WORDS = ["a", "Zoë", "naïve/ü", 'quote"\\', "e\u0301", "\u00e9", "tab\t", "日本", "%2F", "x" * 128]


def state(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return harness.run("state", *arguments, **options)


def fresh(name: str) -> Path:
    """A path in the scratch folder with nothing at it."""
    path = SCRATCH / "state" / name
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    return path


def made_up(users: int, seed: int = SEED, events: int = 12) -> list[dict[str, Any]]:
    """Records of users with their events, in the order of an export."""
    random_ = random.Random(seed)
    ids = {f"{random_.choice(WORDS)[:100]}-{number}" for number in range(users)} | {"x" * 128}
    records: list[dict[str, Any]] = []
    for user in sorted(ids, key=str.encode):
        count = random_.randrange(events)
        record: dict[str, Any] = {"type": "user", "user_id": user, "features": {}, "consent": True}
        if random_.random() < 0.3:
            record["features"] = {"age": random_.choice([7, 1.5, -0.25, 1e300]), "tags": ["a", "ü"], "zone": True}
        if random_.random() < 0.2:
            record["consent"] = False
        record["total"] = count + random_.choice([0, 0, 5, 100_000])
        if random_.random() < 0.1:
            record["erased"] = True
        records.append(record)
        times = sorted(random_.choice([LATELY, 5e8, -3.25]) + random_.randrange(1000) / 4 for _ in range(count))
        for number, timestamp in enumerate(times):
            event: dict[str, Any] = {"type": "event", "user_id": user, "item_id": f"film-{random_.randrange(9999):05}"}
            if random_.random() < 0.8:
                event["action"] = random_.choice(["view", "like"])
            event["timestamp"] = int(timestamp) if timestamp == int(timestamp) else timestamp
            event["event_id"] = f"{number}-{random_.choice(WORDS)[:20]}"
            if random_.random() < 0.3:
                event |= {"value": random_.choice([0, -1, 0.1, 1e-300]), "recommendation_id": "r", "position": 3}
            records.append(event)
    return records


def text(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n" for r in records)


def written(name: str, content: str) -> str:
    path = fresh(name)
    path.write_text(content)
    return str(path)


def event(user: str, number: int, **more: Any) -> dict[str, Any]:
    return {"type": "event", "user_id": user, "item_id": "film-00001", "timestamp": LATELY + number,
            "event_id": f"e{number}"} | more


class StateTools(harness.Case):
    def ok(self, *arguments: str) -> str:
        done = state(*arguments)
        self.assertEqual(done.returncode, 0, f"{arguments}: {done.stderr[-2000:]} {done.stdout[-500:]}")
        return done.stdout

    def imported(self, folder: Path, lines: str, *flags: str) -> str:
        return self.ok("import", "--state-dir", str(folder), "--in", written(folder.name + ".jsonl", lines), *flags)

    def exported(self, folder: Path, *flags: str) -> str:
        return self.ok("export", "--state-dir", str(folder), *flags)

    def assert_good(self, folder: Path) -> str:
        return self.ok("verify", "--state-dir", str(folder))

    # Export and import

    def test_an_export_imported_and_exported_again_is_the_same_bytes(self) -> None:
        records = made_up(400)
        first, second = fresh("round-1"), fresh("round-2")
        self.imported(first, text(records))
        out = fresh("round.jsonl")
        self.exported(first, "--out", str(out))
        self.assertEqual(out.stat().st_mode & 0o777, 0o600)
        once = out.read_text()
        self.assertEqual([json.loads(line) for line in once.splitlines()], records)
        self.imported(second, once)
        self.assertEqual(self.exported(second), once)
        counts = self.assert_good(second)
        self.assertIn(f"{sum(r['type'] == 'event' for r in records)} events kept", counts)

    def test_an_import_done_again_changes_nothing(self) -> None:
        folder, records = fresh("again"), made_up(100)
        self.imported(folder, text(records))
        before = self.exported(folder)
        said = self.imported(folder, text(records))
        self.assertIn(" 0 events stored", said)
        self.assertEqual(self.exported(folder), before)

    def test_events_alone_are_a_backfill_of_any_age_and_order(self) -> None:
        folder = fresh("backfill")
        events = [event(f"u{n % 7}", n, timestamp=LATELY - 1e9 + (n * 7919) % 1000) for n in range(500)]
        self.assertIn("500 events stored", self.imported(folder, text(events)))
        lines = [json.loads(line) for line in self.exported(folder).splitlines()]
        users = [r for r in lines if r["type"] == "user"]
        self.assertEqual([u["user_id"] for u in users], [f"u{n}" for n in range(7)])
        self.assertEqual(sum(u["total"] for u in users), 500)
        for user in users:
            times = [r["timestamp"] for r in lines if r["type"] == "event" and r["user_id"] == user["user_id"]]
            self.assertEqual(times, sorted(times))
        self.assert_good(folder)

    def test_only_the_newest_events_are_kept_and_all_are_counted(self) -> None:
        folder = fresh("long")
        self.imported(folder, text([event("u", n) for n in range(100)]), "--history-max", "16")
        lines = [json.loads(line) for line in self.exported(folder, "--user", "u").splitlines()]
        self.assertEqual(lines[0]["total"], 100)
        self.assertEqual([r["event_id"] for r in lines[1:]], [f"e{n}" for n in range(84, 100)])
        self.assert_good(folder)

    def test_one_user_is_exported_and_an_unknown_one_is_an_error(self) -> None:
        folder, records = fresh("one"), made_up(30)
        self.imported(folder, text(records))
        lines = self.exported(folder, "--user", "x" * 128).splitlines()
        self.assertEqual([json.loads(line) for line in lines], [r for r in records if r["user_id"] == "x" * 128])
        done = state("export", "--state-dir", str(folder), "--user", "nobody")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("nothing is kept of that user", done.stderr)

    def test_a_bad_line_is_named_and_ends_the_import_or_is_counted(self) -> None:
        good = [json.dumps(event("u", n)) for n in range(3)]
        bad = {
            "{": "unexpected end", "": "unexpected end", "[]": "expected an object",
            '{"type":"user"}': "/user_id", '{"type":"item","user_id":"u"}': "/type",
            json.dumps(event("u", 9) | {"colour": 1}): "/colour",
            json.dumps(event("u", 9) | {"event_id": None}): "/event_id",
            json.dumps(event("u", 9) | {"timestamp": "now"}): "/timestamp",
            json.dumps(event("u", 9) | {"item_id": "x" * 129}): "/item_id",
            json.dumps(event("u", 9) | {"value": "private"}): "/value",
            '{"type":"user","user_id":"u","features":{"a":{}}}': "/features",
            "é" * 3_000_000: "longer than",
        }
        for number, (line, words) in enumerate(bad.items()):
            with self.subTest(words):
                folder = fresh(f"bad-{number}")
                source = written("bad.jsonl", "\n".join([*good[:2], line, good[2]]))
                done = state("import", "--state-dir", str(folder), "--in", source)
                self.assertEqual(done.returncode, 1)
                self.assertIn("line 3: ", done.stderr)
                self.assertIn(words, done.stderr)
                self.assertNotIn("private", done.stderr)
                self.assertIn("2 events stored", done.stdout)
                done = state("import", "--state-dir", str(folder), "--in", source, "--skip-bad")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("1 events stored, 2 there already", done.stdout)
                self.assertIn("1 bad lines", done.stdout)
                self.assert_good(folder)

    def test_consent_withdrawn_here_stays_withdrawn(self) -> None:
        folder = fresh("withdrawn")
        self.imported(folder, text([{"type": "user", "user_id": "u", "consent": False}]))
        before = self.exported(folder)
        said = self.imported(folder, text([{"type": "user", "user_id": "u", "consent": True}, event("u", 1)]))
        self.assertIn(" 0 events stored, 0 there already, 1 refused", said)
        self.assertEqual(self.exported(folder), before)

    def test_retention_holds_for_what_is_imported(self) -> None:
        folder = fresh("retained")
        said = self.imported(folder, text([event("u", 0), event("u", 1, timestamp=1e9)]), "--retention-days", "30")
        self.assertIn(" 1 events stored, 0 there already, 1 refused", said)

    def test_an_import_killed_at_any_moment_goes_on_when_begun_again(self) -> None:
        records = made_up(3000, events=30)
        source, whole = written("killed.jsonl", text(records)), fresh("killed-whole")
        self.ok("import", "--state-dir", str(whole), "--in", source)
        expected = self.exported(whole)
        folder, random_ = fresh("killed"), random.Random(SEED)
        for _ in range(8):
            process = subprocess.Popen(
                [BINARY, "state", "import", "--state-dir", str(folder), "--in", source],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment())
            try:
                process.wait(random_.uniform(0.02, 0.4))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        self.ok("import", "--state-dir", str(folder), "--in", source)
        self.assertEqual(self.exported(folder), expected)
        self.assert_good(folder)

    def test_standard_input_is_read_and_a_full_disk_is_an_error(self) -> None:
        folder = fresh("stream")
        done = subprocess.run([BINARY, "state", "import", "--state-dir", str(folder)], input=text(made_up(50)),
                              capture_output=True, text=True, env=clean_environment())
        self.assertEqual(done.returncode, 0, done.stderr)
        with open("/dev/full", "w") as full:
            done = subprocess.run([BINARY, "state", "export", "--state-dir", str(folder)], stdout=full,
                                  stderr=subprocess.PIPE, text=True, env=clean_environment())
        self.assertEqual(done.returncode, 1)
        self.assertIn("No space left", done.stderr)

    def test_a_folder_that_holds_no_state_is_an_error(self) -> None:
        empty = fresh("empty")
        empty.mkdir()
        for command in (["export"], ["verify"], ["backup", "--out", str(fresh("nothing"))]):
            for folder in (empty, SCRATCH / "missing"):
                done = state(*command, "--state-dir", str(folder))
                self.assertEqual(done.returncode, 1, command)
                self.assertIn(str(folder), done.stderr)
        self.assertFalse((SCRATCH / "missing").exists())
        self.assertEqual(state("verify").returncode, 2)

    # Verify

    def test_damage_is_found_and_names_no_user(self) -> None:
        whole = fresh("verify")
        self.imported(whole, text(made_up(60)))
        damages = {
            "UPDATE held SET total = kept - 1 WHERE kind = 1 AND (user = 3 AND kept > 0 OR user = 4)": "in all",
            "UPDATE held SET kept = kept + 1 WHERE kind = 1 AND user = 3": "counted",
            "DELETE FROM held WHERE kind = 1 AND user = 3": "sequence 0",
            "UPDATE user SET features = '{' WHERE key = 3": "features",
            "UPDATE user SET consent = 7 WHERE key = 3": "consent",
            "DELETE FROM user WHERE key = (SELECT user FROM event LIMIT 1)": "without the user",
            "UPDATE meta SET value = 1 WHERE name = 'commit'": "commit 1",
            "DELETE FROM meta WHERE name = 'secret'": "secret",
            "UPDATE held SET item = '' WHERE kind = 0 AND number = (SELECT min(number) FROM event)": "item",
        }
        for number, (sql, words) in enumerate(damages.items()):
            with self.subTest(words):
                folder = fresh(f"verify-{number}")
                shutil.copytree(whole, folder)
                with sqlite3.connect(folder / "state.db") as database:
                    database.execute(sql)
                database.close()
                done = state("verify", "--state-dir", str(folder))
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn(words, done.stdout)
                self.assertIn("not good", done.stdout)
                for id_ in ("film-", "Zo", "xxxx"):
                    self.assertNotIn(id_, done.stdout)

    def test_damaged_pages_are_found(self) -> None:
        folder = fresh("pages")
        self.imported(folder, text(made_up(300)))
        path = folder / "state.db"
        data = bytearray(path.read_bytes())
        random_ = random.Random(SEED)
        for _ in range(20):
            at = random_.randrange(4096, len(data))
            data[at:at + 64] = random_.randbytes(len(data[at:at + 64]))
        path.write_bytes(data)
        self.assertEqual(state("verify", "--state-dir", str(folder)).returncode, 1)

    # Compact

    def test_compacting_drops_what_is_retained_no_longer_and_gives_room_back(self) -> None:
        folder = fresh("compact")
        old = [event(f"u{n % 50}", n, timestamp=1e9 + n, item_id="o" * 100) for n in range(20_000)]
        new = [event(f"u{n % 50}", 100_000 + n) for n in range(50)]
        self.imported(folder, text(old + new))
        before = (folder / "state.db").stat().st_size
        said = self.ok("compact", "--state-dir", str(folder), "--retention-days", "30")
        self.assertIn("20000 events dropped", said)
        self.assertLess((folder / "state.db").stat().st_size, before * 0.7)
        lines = [json.loads(line) for line in self.exported(folder).splitlines()]
        self.assertEqual([r["total"] for r in lines if r["type"] == "user"], [401] * 50)
        self.assertEqual(sum(r["type"] == "event" for r in lines), 50)
        self.assert_good(folder)
        self.assertNotIn(b"oooooooo", b"".join(p.read_bytes() for p in folder.iterdir()))

    # Beside a daemon

    def test_a_folder_in_use_takes_no_import_and_no_compacting(self) -> None:
        folder = fresh("in-use")
        source = written("in-use.jsonl", text(made_up(5)))
        self.start("--state-dir", str(folder))
        for command in (["import", "--in", source], ["compact"]):
            done = state(*command, "--state-dir", str(folder))
            self.assertEqual(done.returncode, 1)
            self.assertIn("another process has it open", done.stderr)
        self.assert_good(folder)

    def test_a_backup_beside_events_holds_all_that_were_acknowledged_before_it(self) -> None:
        folder = fresh("live")
        # Enough pages for the copy to take several slices.
        self.imported(folder, text([event(f"seed-{n % 400}", n, item_id="i" * 100) for n in range(20_000)]))
        daemon = self.start("--state-dir", str(folder))
        acknowledged: list[str] = []
        ending = threading.Event()
        faults: list[str] = []

        def post() -> None:
            while not ending.is_set():
                ids = [f"live-{len(acknowledged) + n}" for n in range(20)]
                # Fewer a user than are kept.
                body = [{"user_id": f"user-{id_[5:]}"[:8], "item_id": "film-00001", "event_id": id_} for id_ in ids]
                answer = daemon.request("POST", "/events", json.dumps(body).encode(),
                                        {"Content-Type": "application/json"})
                if answer.status != 200 or answer.json["stored"] != 20:
                    faults.append(f"{answer.status} {answer.body[:300]!r}")
                    return
                acknowledged.extend(ids)

        poster = threading.Thread(target=post)
        poster.start()
        try:
            for number in range(3):
                time.sleep(0.2)
                before, copy = list(acknowledged), fresh(f"copy-{number}")
                said = self.ok("backup", "--state-dir", str(folder), "--out", str(copy))
                self.assertIn("good", said)
                self.assertEqual(sorted(p.name for p in copy.iterdir()), ["state.db"])
                lines = [json.loads(line) for line in self.exported(copy).splitlines()]
                ids = {r["event_id"] for r in lines if r["type"] == "event"}
                self.assertEqual([i for i in before if i not in ids], [])
                self.assertGreater(len(before), 0)
                # One moment, also of an export and of verifying.
                self.assert_good(folder)
                kept: dict[str, int] = {}
                for record in map(json.loads, self.exported(folder).splitlines()):
                    if record["type"] == "user":
                        kept[record["user_id"]] = record["total"]
                    else:
                        kept[record["user_id"]] -= 1
                self.assertEqual(set(kept.values()), {0})
        finally:
            ending.set()
            poster.join()
        self.assertEqual(faults, [])
        restored = self.start("--state-dir", str(copy))
        answer = restored.get("/users/user-0")
        self.assertEqual(answer.status, 200, answer.body)
        self.assertIn("live-0", [e["event_id"] for e in answer.json["events"]])

    def test_a_backup_does_not_write_over_anything(self) -> None:
        folder, target = fresh("source"), fresh("target")
        self.imported(folder, text(made_up(5)))
        target.mkdir()
        done = state("backup", "--state-dir", str(folder), "--out", str(target))
        self.assertEqual(done.returncode, 1)
        self.assertIn("is there already", done.stderr)
        self.assertEqual(list(target.iterdir()), [])
