"""The feedback log, and the loop it closes: slates and events, joined, are what training reads."""

import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import harness
from harness import DEMO, ROOT, SCRATCH, Daemon, catalogue

sys.path.insert(0, str(ROOT / "training"))
from recserver_train import feedback  # noqa: E402

JSON = {"Content-Type": "application/json"}


def slates(folder: Path) -> list[dict[str, Any]]:
    """Every whole line of the log, in order."""
    return list(feedback.lines(sorted(folder.glob("slates-*.ndjson"))))


def sampled(daemon: Daemon, result: str) -> int:
    text = daemon.get("/metrics").body.decode()
    match = re.search(rf'^recserver_feedback_slates_total\{{result="{result}"\}} (\d+)$', text, re.MULTILINE)
    return int(match[1])


class Log(harness.Case):
    def folder(self, name: str) -> Path:
        return SCRATCH / f"feedback-{name}"

    def wait_for(self, daemon: Daemon, count: int, result: str = "written") -> None:
        limit = time.monotonic() + harness.patience()
        while sampled(daemon, result) < count:
            self.assertLess(time.monotonic(), limit, daemon.log_text())
            time.sleep(0.01)

    def test_every_slate_that_was_sent_is_a_line_and_names_no_user(self) -> None:
        folder = self.folder("lines")
        daemon = self.start("--feedback-dir", str(folder))
        user, answers = "demo-scifi-1", []
        before = time.time()
        answers.append(daemon.recommend(user_id=user, n=7))
        answers.append(daemon.recommend(user_id=user, placement="home", n=3))
        answers.append(daemon.recommend())
        batch = b'{"user_id":"demo-horror-1","n":2}\n{"n":0}\n{"n":1}\n'
        answer = daemon.request("POST", "/recommend", batch, {"Content-Type": "application/x-ndjson"})
        lines = [json.loads(line) for line in answer.body.splitlines()]
        answers += [lines[0], lines[2]]
        # Neither a refused request nor neighbours are a slate.
        self.assertEqual(daemon.post({"n": 0}).status, 400)
        daemon.similar("film-00001")
        self.wait_for(daemon, 5)
        logged = slates(folder)
        self.assertEqual(len(logged), 5)
        for line, answer in zip(logged, answers):
            for name in ("recommendation_id", "model_version", "placement", "variant", "score_kind"):
                self.assertEqual(line.get(name), answer.get(name), name)
            self.assertEqual(line["sample_rate"], 1)
            self.assertTrue(before - 1 <= line["time"] <= time.time() + 1)
            self.assertEqual(
                line["items"],
                [
                    {"item_id": item["item_id"], "position": i, "score": item["score"], "propensity": 1}
                    for i, item in enumerate(answer["items"])
                ],
            )
        text = "".join(path.read_text() for path in folder.iterdir())
        for secret in (user, "demo-horror-1", *(answer["request_id"] for answer in answers)):
            self.assertNotIn(secret, text)

    def test_a_share_is_chosen_by_the_id_and_the_share_is_said(self) -> None:
        folder = self.folder("share")
        daemon = self.start("--feedback-dir", str(folder), "--feedback-percent", "40")
        ids = [daemon.recommend(n=1)["recommendation_id"] for _ in range(300)]
        daemon.stop(self)
        logged = slates(folder)
        self.assertTrue(70 <= len(logged) <= 170, len(logged))
        self.assertEqual({line["sample_rate"] for line in logged}, {0.4})
        order = {name: i for i, name in enumerate(ids)}
        places = [order[line["recommendation_id"]] for line in logged]
        self.assertEqual(places, sorted(places))

    def test_files_are_rotated_and_the_oldest_go(self) -> None:
        folder = self.folder("rotated")
        daemon = self.start(
            "--feedback-dir", str(folder), "--feedback-file-bytes", "4096", "--feedback-files", "3"
        )
        ids = []
        for _ in range(60):
            ids.append(daemon.recommend(n=10)["recommendation_id"])
            self.wait_for(daemon, len(ids))
        daemon.stop(self)
        files = sorted(folder.iterdir())
        self.assertEqual(len(files), 3)
        self.assertGreater(int(files[0].stem.removeprefix("slates-")), 3)
        self.assertTrue(all(path.stat().st_size <= 4096 for path in files))
        kept = [line["recommendation_id"] for line in slates(folder)]
        self.assertEqual(kept, ids[-len(kept) :])

    def test_after_a_kill_the_lines_are_whole_and_a_torn_one_is_gone(self) -> None:
        folder = self.folder("torn")
        first = Daemon("--feedback-dir", str(folder))
        ids = [first.recommend(n=5)["recommendation_id"] for _ in range(10)]
        self.wait_for(first, 10)
        first.process.kill()
        first.is_ending = True
        first.stop()
        path = folder / "slates-0000000001.ndjson"
        whole = path.read_bytes()
        self.assertEqual(len(whole.splitlines()), 10)
        path.write_bytes(whole[:-20])
        daemon = self.start("--feedback-dir", str(folder))
        ids[9] = daemon.recommend(n=5)["recommendation_id"]
        self.wait_for(daemon, 1)
        self.assertEqual([line["recommendation_id"] for line in slates(folder)], ids)

    def test_a_second_daemon_on_the_folder_writes_to_a_file_of_its_own(self) -> None:
        folder = self.folder("shared")
        daemons = [self.start("--feedback-dir", str(folder)) for _ in range(2)]
        ids = [daemon.recommend(n=1)["recommendation_id"] for daemon in daemons * 3]
        for daemon in daemons:
            self.wait_for(daemon, 3)
        self.assertEqual(len(list(folder.iterdir())), 2)
        self.assertEqual({line["recommendation_id"] for line in slates(folder)}, set(ids))

    def test_a_disk_that_takes_nothing_costs_no_answer_and_heals(self) -> None:
        folder = self.folder("full")
        daemon = self.start("--feedback-dir", str(folder))
        ids = [daemon.recommend(n=5)["recommendation_id"]]
        self.wait_for(daemon, 1)
        size = next(folder.iterdir()).stat().st_size
        # No file may grow beyond this: a line is cut in the middle, as by a full disk.
        soft, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (size + 100, hard))
        ids += [daemon.recommend(n=5)["recommendation_id"] for _ in range(20)]
        limit = time.monotonic() + harness.patience()
        while b"recserver_feedback_errors_total 0" in daemon.get("/metrics").body:
            self.assertLess(time.monotonic(), limit)
        self.assertEqual(next(folder.iterdir()).stat().st_size, size)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        self.wait_for(daemon, 21)
        self.assertEqual([line["recommendation_id"] for line in slates(folder)], ids)
        self.assertEqual(sampled(daemon, "dropped"), 0)

    def test_a_folder_that_cannot_be_made_is_told_once_and_serving_goes_on(self) -> None:
        blocked = SCRATCH / "feedback-blocked"
        blocked.write_text("")
        daemon = self.start("--feedback-dir", str(blocked))
        for _ in range(3):
            daemon.recommend(n=1)
        self.assertEqual(daemon.log_text().count("the feedback log cannot be written"), 1)
        blocked.unlink()
        self.wait_for(daemon, 3)
        self.assertEqual(len(slates(blocked)), 3)


class Loop(harness.Case):
    """A server's slates and events, through the export and the join, to what training reads."""

    def serve(self, name: str) -> tuple[Daemon, Path, Path]:
        log, state = SCRATCH / f"loop-{name}-log", SCRATCH / f"loop-{name}-state"
        return self.start("--feedback-dir", str(log), "--state-dir", str(state)), log, state

    def post(self, daemon: Daemon, *events: dict[str, Any]) -> None:
        answer = daemon.request("POST", "/events", json.dumps(events).encode(), JSON)
        self.assertEqual(answer.status, 200, answer.body)
        self.assertNotIn(b"problem", answer.body)

    def export(self, state: Path) -> Path:
        path = state.with_suffix(".ndjson")
        done = harness.run("state", "export", "--state-dir", str(state), "--out", str(path))
        self.assertEqual(done.returncode, 0, done.stderr)
        return path

    def test_what_users_did_about_what_they_were_shown_is_exactly_what_the_join_says(self) -> None:
        daemon, log, state = self.serve("exact")
        now = time.time()

        def event(user: str, answer: dict[str, Any] | None, place: int, **more: Any) -> dict[str, Any]:
            item = answer["items"][place]["item_id"] if answer else "film-00001"
            named = {"recommendation_id": answer["recommendation_id"]} if answer else {}
            return {"user_id": user, "item_id": item, "action": "watch", "timestamp": now} | named | more

        a1, a2, b1 = (daemon.recommend(user_id=user, n=6, now=now) for user in ("ann", "ann", "bob"))
        item = a1["items"][2]["item_id"]
        self.post(
            daemon,
            event("ann", a1, 2, position=2, event_id="1"),
            event("ann", a1, 2, position=2, event_id="1"),  # Sent twice, counts once.
            event("ann", None, 0, item_id=item, action="like", timestamp=now + 10, event_id="2"),
            event("ann", a2, 0, timestamp=now + 20, event_id="3"),
            event("bob", b1, 5, position=5, event_id="1"),
            event("bob", b1, 4, position=3, event_id="2"),  # At another place.
            event("bob", a1, 1, event_id="3"),  # Another's slate.
            event("bob", None, 0, event_id="4"),  # Of its own accord.
        )
        exported = self.export(state)
        daemon.stop(self)
        joined = feedback.join(feedback.read_slates(log), feedback.read_events(exported))
        self.assertEqual(
            [(e.user_id, e.event_id, e.action, i.recommendation_id, i.position) for e, i in joined.credited],
            [
                ("ann", "1", "watch", a1["recommendation_id"], 2),
                ("bob", "1", "watch", b1["recommendation_id"], 5),
                ("ann", "2", "like", a1["recommendation_id"], 2),
                ("ann", "3", "watch", a2["recommendation_id"], 0),
            ],
        )
        self.assertEqual(joined.refused, {"position": 1, "other_user": 1})
        rows = [i.line() for i in joined.impressions]
        self.assertEqual(len(rows), 18)
        expected = []
        for user, answer in (("ann", a1), ("ann", a2), ("bob", b1)):
            for place, shown in enumerate(answer["items"]):
                key = (answer["recommendation_id"], place)
                actions: dict[str, int] = {}
                for e, i in joined.credited:
                    if (i.recommendation_id, i.position) == key:
                        actions[e.action] = actions.get(e.action, 0) + 1
                expected.append(
                    {
                        "recommendation_id": answer["recommendation_id"],
                        "model_version": answer["model_version"],
                        "score_kind": answer["score_kind"],
                        "sample_rate": 1.0,
                        "item_id": shown["item_id"],
                        "position": place,
                        "score": shown["score"],
                        "propensity": 1.0,
                        "user_id": user,
                        "shown": True,
                        "clicked": bool(actions),
                        "actions": actions,
                    }
                )
        for row in rows:
            self.assertLess(abs(row.pop("time") - now), harness.patience())
        self.assertEqual(rows, expected)
        self.assertEqual(sum(row["clicked"] for row in rows), 3)

    def test_a_bundle_is_trained_on_what_was_logged(self) -> None:
        if not harness.FULL:
            self.skipTest("only with --full: it trains")
        if not (ROOT / "training/train").exists():
            self.skipTest("training/train is not there")
        daemon, log, state = self.serve("trained")
        films, users = catalogue().items, [f"user-{i}" for i in range(120)]
        now = time.time() - 3600
        for turn in range(8):
            events = []
            for number, user in enumerate(users):
                answer = daemon.recommend(user_id=user, n=10, now=now + turn)
                place = (number + turn) % 10 if turn % 2 else 0
                shown = answer["items"][place]["item_id"] if answer["items"] else films[number]
                events.append(
                    {
                        "user_id": user,
                        "item_id": shown,
                        "action": "like" if number % 3 == 0 else "watch",
                        "timestamp": time.time(),
                        "recommendation_id": answer["recommendation_id"],
                        "position": place,
                    }
                )
            self.post(daemon, *events)
        exported = self.export(state)
        daemon.stop(self)
        out = SCRATCH / "loop-trained"
        done = subprocess.run(
            [str(ROOT / "training/train"), "feedback", "--train", "--quick", "--out", str(out)]
            + ["--slates", str(log), "--events", str(exported), "--bundle", str(DEMO)],
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr[-3000:])
        self.assertIn("9600 impressions, 960 with actions; 960 events,\n960 credited", done.stdout)
        check = harness.run("check", str(out / "bundle"))
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)
        trained = self.start(bundle=out / "bundle")
        answer = trained.recommend(user_id="user-0", n=5)
        self.assertEqual((answer["model_version"], len(answer["items"])), ("feedback-1", 5))
