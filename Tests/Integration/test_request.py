"""Placements, experiment arms, labels, batches and preferences of /recommend on the demo bundle."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import contract
import harness
from harness import NOW, catalogue
from test_recommend import genres, ids, scores, year


def with_sections(name: str, **sections: Any) -> Path:
    """A copy of the demo bundle with more in its manifest."""
    bundle = harness.copy_bundle(name)
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | sections))
    return bundle


class Placements(harness.Case):
    def test_every_placement_of_the_demo_bundle_is_named_in_its_answer(self) -> None:
        for name in catalogue().manifest["placements"]:
            for user in ["demo-scifi-1", "nobody"]:
                answer = self.daemon.recommend(user_id=user, placement=name, n=12)
                self.assertEqual(answer["placement"], name)
                self.assertEqual((len(set(ids(answer))), answer["short"]), (12, False))
        self.assertNotIn("placement", self.daemon.recommend(user_id="demo-scifi-1"))

    def test_home_mixes_the_studios(self) -> None:
        studios = catalogue().words("studio")
        for user in ["demo-western-1", "demo-horror-2", "nobody"]:
            for n in [5, 20, 60]:
                answer = self.daemon.recommend(user_id=user, placement="home", n=n)
                counts = Counter(w for i in ids(answer) for w in studios[catalogue().row[i]])
                self.assertLessEqual(max(counts.values()), 3)

    def test_new_releases_are_new_and_the_newest_are_lifted(self) -> None:
        films = [i for i in catalogue().items if year(i) >= 2018][:200]
        chosen = [{"item_id": i} for i in films]
        plain = self.daemon.recommend(user_id="demo-drama-2", candidates=chosen, explain=True)
        answer = self.daemon.recommend(
            user_id="demo-drama-2", candidates=chosen, explain=True, placement="new-releases"
        )
        before = scores(plain)
        for item in answer["items"]:
            factor = 1.5 if year(item["item_id"]) >= 2023 else 1
            self.assertAlmostEqual(item["score"], before[item["item_id"]] * factor, delta=1e-9)
            self.assertEqual(item["explain"]["value"], before[item["item_id"]])
        page = self.daemon.recommend(user_id="demo-drama-2", placement="new-releases", n=100)
        self.assertTrue(all(year(i) >= 2018 for i in ids(page)))
        drama = self.daemon.recommend(
            user_id="demo-drama-2", placement="new-releases", n=20, filter={"field": "genres", "in": ["War", "Drama"]}
        )
        self.assertTrue(all(year(i) >= 2018 and "Drama" in genres(i) for i in ids(drama)))

    def test_spotlight_pins(self) -> None:
        pins = {"film-00042": 0, "film-00108": 2, "film-00500": 3}
        for user in ["demo-comedy-1", "nobody"]:
            page = ids(self.daemon.recommend(user_id=user, placement="spotlight", n=10, exclude_seen=False))
            for item, place in pins.items():
                self.assertEqual(page.index(item), place)
            self.assertEqual(len(set(page)), 10)
        without = ids(
            self.daemon.recommend(
                user_id="demo-comedy-1", placement="spotlight", n=10, exclude_seen=False, exclude=["film-00042"]
            )
        )
        self.assertNotIn("film-00042", without)
        self.assertEqual(without[2:4], ["film-00108", "film-00500"])
        near = ids(self.daemon.similar("film-00042", "?n=6&placement=spotlight"))
        self.assertNotIn("film-00042", near)
        self.assertEqual(near[2:4], ["film-00108", "film-00500"])

    def test_unknown_names_are_422(self) -> None:
        for body, kind in [
            ({"placement": "none"}, "unknown-placement"),
            ({"model": "none"}, "unknown-model"),
        ]:
            contract.check_problem(self.daemon.post(body), kind, 422)
        answer = self.daemon.get("/similar/film-00001?placement=none")
        contract.check_problem(answer, "unknown-placement", 422)

    def test_a_manifest_with_a_placement_that_does_not_fit_is_refused(self) -> None:
        for name, rules, place in [
            ("pin", {"pins": [{"position": 1, "item_id": "no-such"}]}, "/placements/p/pins/0"),
            ("cap", {"caps": [{"attribute": "title", "max": 1}]}, "/placements/p/caps/0/attribute"),
            ("task", {"weights": {"buy": 1}}, "/placements/p/weights/buy"),
        ]:
            bundle = with_sections(f"placement-{name}", placements={"p": rules})
            done = harness.run("check", str(bundle))
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(place, done.stdout + done.stderr)


class Experiments(harness.Case):
    def test_arms_are_sticky_and_every_replica_agrees(self) -> None:
        arms = [
            {"name": "control", "share": 50},
            {"name": "likes", "share": 30, "weights": {"watch": 0, "like": 1}},
            {"name": "page", "share": 20, "placement": "home"},
        ]
        bundle = with_sections("experiment", experiment={"salt": "s1", "variants": arms})
        one, two = self.start(bundle=bundle), self.start(bundle=bundle)
        counts = Counter()
        for number in range(120):
            user = f"user-{number}"
            digest = hashlib.sha256(b"s1\0" + user.encode()).hexdigest()
            place = int(digest[:16], 16) * 100 >> 64
            name = "control" if place < 50 else "likes" if place < 80 else "page"
            for daemon in [one, two]:
                answer = daemon.recommend(user_id=user, n=1)
                self.assertEqual(answer["variant"], name)
                self.assertEqual(answer.get("placement"), "home" if name == "page" else None)
            counts[name] += 1
        self.assertEqual(len(counts), 3)
        self.assertNotIn("variant", one.recommend())
        told = one.recommend(user_id="demo-scifi-1", variant="likes", explain=True, n=5)
        for item in told["items"]:
            self.assertAlmostEqual(item["score"], item["explain"]["probabilities"]["like"])
        contract.check_problem(one.post({"variant": "other"}), "unknown-variant", 422)
        self.assertEqual(self.daemon.recommend(variant="mine")["variant"], "mine")


class Batches(harness.Case):
    def batch(self, lines: list[bytes], **headers: str) -> harness.Answer:
        return self.daemon.post(b"\n".join(lines), **{"Content_Type": "application/x-ndjson"} | headers)

    def test_each_line_gets_what_it_gets_alone(self) -> None:
        bodies = [
            {"user_id": f"demo-{g}-{k}", "n": 3, "now": NOW, "degrade": "never", "deadline_ms": 10_000}
            for g in ["scifi", "horror", "drama"]
            for k in range(1, 7)
        ]
        answer = self.batch([json.dumps(b).encode() for b in bodies])
        contract.check_answer("/recommend", "POST", answer)
        lines = [json.loads(line) for line in answer.body.splitlines()]
        self.assertEqual(len(lines), len(bodies))
        for line, body in zip(lines, bodies):
            contract.check({"$ref": "#/components/schemas/Recommendation"}, line)
            self.assertEqual(line["items"], self.daemon.recommend(**body)["items"])
        self.assertEqual(len({line["recommendation_id"] for line in lines}), len(lines))

    def test_a_bad_line_is_a_problem_and_the_others_go_on(self) -> None:
        answer = self.batch([b'{"n":1}', b"{", b"", b'{"n":0}', b'{"placement":"none"}', b"\xff", b'{"n":2}'])
        self.assertEqual(answer.status, 200)
        lines = [json.loads(line) for line in answer.body.splitlines()]
        self.assertEqual([line.get("status") for line in lines], [None, 400, 400, 400, 422, 400, None])
        self.assertEqual([line.get("line") for line in lines], [None, 2, 3, 4, 5, 6, None])
        for line in lines[1:6]:
            contract.check({"$ref": "#/components/schemas/Problem"}, line)

    def test_the_size_is_limited_and_lines_are_counted(self) -> None:
        before = self.daemon.get("/metrics").body.decode()
        self.assertEqual(len(self.batch([b"{}"] * 256).body.splitlines()), 256)
        contract.check_problem(self.batch([b"{}"] * 257), "out-of-range", 400)
        after = self.daemon.get("/metrics").body.decode()

        def lines(text: str) -> int:
            name = 'recserver_batch_lines_total{outcome="answered"} '
            return int(text.split(name)[1].split()[0])

        self.assertEqual(lines(after) - lines(before), 256)
        self.assertEqual(self.batch([]).body, b"")

    def test_every_line_has_a_deadline_of_its_own(self) -> None:
        body = {"user_id": "demo-scifi-1", "now": NOW, "deadline_ms": 5000, "degrade": "never", "n": 1}
        lines = self.batch([json.dumps(body).encode()] * 200).body.splitlines()
        self.assertTrue(all(b'"items"' in line for line in lines))

    def test_headers_count_for_every_line(self) -> None:
        answer = self.batch(
            [b'{"n":1,"x":1}', b'{"user_id":"demo-scifi-2"}', b'{"n":1,"user_id":"demo-scifi-1"}'],
            X_User_Id="demo-scifi-1",
            Prefer='respond-async, Handling="lenient"',
        )
        self.assertEqual(answer.headers["preference-applied"], "handling=lenient")
        lines = [json.loads(line) for line in answer.body.splitlines()]
        self.assertEqual(lines[0]["history"]["events"], lines[2]["history"]["events"])
        self.assertGreater(lines[0]["history"]["events"], 0)
        self.assertEqual(lines[1]["status"], 400)


class Headers(harness.Case):
    def test_lenient_handling_ignores_unknown_fields(self) -> None:
        body = {"n": 2, "colour": "red", "session": [{"item_id": "film-00001", "stars": 5}]}
        contract.check_problem(self.daemon.post(body), "unknown-field", 400)
        answer = self.daemon.post(body, Prefer="handling=lenient")
        contract.check_answer("/recommend", "POST", answer)
        self.assertEqual(answer.headers["preference-applied"], "handling=lenient")
        self.assertEqual(len(answer.json["items"]), 2)
        self.assertEqual(self.daemon.post({"n": "2"}, Prefer="handling=lenient").status, 400)

    def test_the_user_of_the_header(self) -> None:
        answer = self.daemon.post({"n": 1}, X_User_Id="demo-scifi-1").json
        self.assertGreater(answer["history"]["events"], 0)
        self.assertEqual(self.daemon.post({"user_id": "a"}, X_User_Id="b").status, 400)
        self.assertEqual(self.daemon.post({}, X_User_Id="x" * 129).status, 400)

    def test_problems_tell_their_time(self) -> None:
        self.assertIn("queue;dur=", self.daemon.post({"n": 0}).headers["server-timing"])

    def test_a_history_offset_moves_the_window_only(self) -> None:
        history = catalogue().history("demo-horror-1")
        window = catalogue().manifest["sequence"]["max_events"]
        block = catalogue().manifest["sequence"]["window_block"]
        self.assertGreater(len(history), window)
        chosen = [{"item_id": f"film-{i:05}"} for i in range(1, 12_000, 397)]

        def sequence(events: list[Any], offset: int) -> list[float]:
            answer = self.daemon.recommend(
                history=events, history_offset=offset, candidates=chosen, explain=True, exclude_seen=False
            )
            found = {i["item_id"]: i["explain"]["sequence_score"] for i in answer["items"]}
            return [found[c["item_id"]] for c in chosen]

        start = block * -(-(len(history) - window) // block)
        whole = sequence(history, 0)
        # What the window does not reach may stay with the caller, as long as it is counted.
        self.assert_close(sequence(history[start:], start), whole)
        self.assert_close(sequence(history[-window:], len(history) - window), whole)
        self.assertNotEqual(sequence(history[-window:], 0), whole)
