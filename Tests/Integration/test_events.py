"""POST /events: what is taken, what is refused, what counts once, and tokens."""

import base64
import json
import threading
import unittest
from typing import Any

import contract
import harness
from harness import NOW, Answer


def lines(*events: Any) -> bytes:
    return b"".join(e if isinstance(e, bytes) else json.dumps(e).encode() + b"\n" for e in events)


def token(text: str) -> bytearray:
    return bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def text(token: bytes) -> str:
    return base64.urlsafe_b64encode(bytes(token)).decode().rstrip("=")


def later(text_: str, by: int) -> str:
    """A token of the same kind that stands for `by` changes more."""
    data = token(text_)
    data[-8:] = (int.from_bytes(data[-8:], "big") + by).to_bytes(8, "big")
    return text(data)


class Events(harness.Case):
    def send(self, body: Any, **headers: str) -> Answer:
        answer = self.daemon.send("POST", "/events", body, **headers)
        contract.check_answer("/events", "POST", answer)
        return answer

    def test_the_examples_are_stored(self) -> None:
        body = contract.document()["paths"]["/events"]["post"]["requestBody"]["content"]
        for kind, media in body.items():
            for name, example in contract.examples(media).items():
                with self.subTest(kind=kind, name=name):
                    data = example.encode() if isinstance(example, str) else json.dumps(example).encode()
                    answer = self.send(data, Content_Type=kind)
                    self.assertEqual(answer.status, 200, answer.body[:300])
                    self.assertEqual(answer.json["refused"], 0)
                    self.assertEqual(answer.json["request_id"], answer.headers["x-request-id"])

    def test_one_an_array_and_lines_store_the_same(self) -> None:
        event = {"item_id": "film-00001", "action": "watch", "timestamp": NOW, "value": 2.5, "position": 0}
        event |= {"recommendation_id": "r-1", "event_id": "e-1"}
        for user, body, kind in [
            ("form-1", json.dumps(event | {"user_id": "form-1"}).encode(), "application/json"),
            ("form-2", json.dumps([event | {"user_id": "form-2"}]).encode(), "application/json"),
            ("form-3", lines(event | {"user_id": "form-3"}), "application/x-ndjson"),
        ]:
            answer = self.send(body, Content_Type=kind)
            self.assertEqual([r["status"] for r in answer.json["results"]], ["stored"])
            held = self.daemon.user(user)
            self.assertEqual(held["events"], [event])
            self.assertEqual(held["total"], 1)
            self.assertEqual(held["sequence"], answer.json["results"][0]["sequence"])

    def test_without_time_and_id_the_server_gives_them(self) -> None:
        answer = self.send([{"user_id": "least", "item_id": "film-00001"}] * 3).json
        ids = [r["event_id"] for r in answer["results"]]
        self.assertEqual(len(set(ids)), 3)
        self.assertEqual(answer["stored"], 3)
        held = self.daemon.user("least")["events"]
        self.assertEqual(sorted(e["event_id"] for e in held), sorted(ids))
        self.assertEqual({len(e) for e in held}, {3})

    def test_what_is_wrong_with_an_event_leaves_the_others(self) -> None:
        good = {"user_id": "partial", "item_id": "film-00001", "timestamp": NOW}
        events = [
            good,
            {"user_id": "partial"},
            7,
            good | {"timestamp": 9e10},
            good | {"event_id": "x", "usr": 1},
            good,
        ]
        expected = [None, "out-of-range", "wrong-type", "too-new", "unknown-field", None]
        pointers = [None, "/1/item_id", "/2", "/3/timestamp", "/4/usr", None]
        answer = self.send(events).json
        self.assertEqual((answer["stored"], answer["duplicates"], answer["refused"]), (2, 0, 4))
        for result, kind, pointer in zip(answer["results"], expected, pointers, strict=True):
            self.assertEqual(result["status"], "refused" if kind else "stored")
            if kind:
                self.assertEqual(result["problem"]["type"], "urn:recserver:problem:" + kind)
                self.assertEqual([e["pointer"] for e in result["problem"]["errors"]], [pointer])
        self.assertEqual(answer["results"][4]["event_id"], "x")
        split = self.send(lines(good, b"\n", b'{"user_id":"partial"\n', b"7\n", good), Content_Type="application/x-ndjson")
        self.assertEqual(
            [(r["status"], r.get("problem", {}).get("line")) for r in split.json["results"]],
            [("stored", None), ("refused", 2), ("refused", 3), ("refused", 4), ("stored", None)],
        )
        self.assertEqual(self.daemon.user("partial")["total"], 4)

    def test_a_single_wrong_event_is_a_problem(self) -> None:
        good = {"user_id": "single", "item_id": "film-00001"}
        for body, kind, status in [
            (b"", "malformed-json", 400),
            (b"{", "malformed-json", 400),
            (b'{"user_id":"a","user_id":"b","item_id":"c"}', "malformed-json", 400),
            (b"7", "wrong-type", 400),
            ({}, "out-of-range", 400),
            (good | {"user_id": "x" * 129}, "out-of-range", 400),
            (good | {"item_id": "é" * 65}, "out-of-range", 400),
            (good | {"action": "x" * 65}, "out-of-range", 400),
            (good | {"event_id": ""}, "out-of-range", 400),
            (good | {"position": 10_001}, "out-of-range", 400),
            (good | {"timestamp": 1e12}, "out-of-range", 400),
            (good | {"value": "1"}, "wrong-type", 400),
            (good | {"usr": 1}, "unknown-field", 400),
            (good | {"timestamp": 9e10}, "too-new", 422),
        ]:
            with self.subTest(body=str(body)[:80]):
                contract.check_problem(self.send(body), kind, status)
        contract.check_problem(self.send(good, X_User_Id="other"), "bad-request", 400)
        contract.check_problem(self.send(good, Content_Type="text/plain"), "unsupported-media-type", 415)
        contract.check_problem(self.daemon.get("/users/single"), "unknown-user", 404)
        limits = {"user_id": "é" * 64, "item_id": "x" * 128, "action": "x" * 64, "position": 10_000}
        limits |= {"event_id": "e" * 128, "recommendation_id": "r" * 128, "value": -1.5e308}
        self.assertEqual(self.send(limits).json["stored"], 1)
        self.assertEqual(self.send(good | {"usr": 1}, Prefer="handling=lenient").status, 200)

    def test_the_header_names_the_user(self) -> None:
        answer = self.send([{"item_id": "film-00001"}, {"user_id": "b", "item_id": "i"}], X_User_Id="header")
        self.assertEqual([r["status"] for r in answer.json["results"]], ["stored", "refused"])
        self.assertEqual(self.daemon.user("header")["total"], 1)

    def test_an_event_sent_again_counts_once(self) -> None:
        event = {"user_id": "again", "item_id": "film-00001", "event_id": "e", "timestamp": NOW}
        first = self.send(event).json
        for body in [event, [event], [event, event], event | {"item_id": "film-00002"}]:
            answer = self.send(body).json
            self.assertEqual((answer["stored"], answer["refused"]), (0, 0))
            self.assertEqual({r["status"] for r in answer["results"]}, {"duplicate"})
            self.assertEqual({r["sequence"] for r in answer["results"]}, {first["results"][0]["sequence"]})
        # Of another user it is another event; twice in one body it counts once.
        self.assertEqual(self.send(event | {"user_id": "again-2"}).json["stored"], 1)
        twice = event | {"event_id": "f"}
        self.assertEqual([r["status"] for r in self.send([twice, twice]).json["results"]], ["stored", "duplicate"])
        held = self.daemon.user("again")
        self.assertEqual((held["total"], [e["event_id"] for e in held["events"]]), (2, ["e", "f"]))

    def test_late_events_take_their_place_and_later_ones_are_refused(self) -> None:
        def event(seconds: float, name: str) -> dict[str, Any]:
            return {"user_id": "late", "item_id": "film-00001", "timestamp": NOW + seconds, "event_id": name}

        self.daemon.events(event(0, "c"), event(-50, "a"), event(-10, "b"), event(20, "d"))
        self.assertEqual([e["event_id"] for e in self.daemon.user("late")["events"]], ["a", "b", "c", "d"])
        self.assertEqual(self.send(event(20 - 86_399, "0")).status, 200)
        contract.check_problem(self.send(event(20 - 86_402, "-")), "too-old", 422)
        self.assertEqual([e["event_id"] for e in self.daemon.user("late")["events"]], ["0", "a", "b", "c", "d"])

    def test_the_largest_lists(self) -> None:
        event = {"user_id": "many", "item_id": "film-00001"}
        answer = self.daemon.events(*[event] * 10_000)
        self.assertEqual((answer["stored"], len(answer["results"])), (10_000, 10_000))
        held = self.daemon.user("many")
        self.assertEqual((held["total"], len(held["events"])), (10_000, 1024))
        contract.check_problem(self.send([event] * 10_001), "out-of-range", 400)
        contract.check_problem(
            self.send(lines(*[event] * 10_001), Content_Type="application/x-ndjson"), "out-of-range", 400
        )
        self.assertEqual(self.send([]).json["results"], [])
        # The path's own largest body, of which the others know nothing.
        space = b" " * (4_194_304 - 2)
        self.assertEqual(self.send(b"[" + space + b"]").status, 200)
        contract.check_problem(self.send(b"[ " + space + b"]"), "content-too-large", 413)
        contract.check_problem(self.daemon.post(b"{" + space + b"}"), "content-too-large", 413)

    def test_who_may_not(self) -> None:
        event = {"user_id": "far", "item_id": "film-00001"}
        for headers in [{"Origin": "http://localhost"}, {"X_Forwarded_For": "10.0.0.1"}, {"Host": "example.org"}]:
            with self.subTest(headers=headers):
                contract.check_problem(self.send(event, **headers), "forbidden", 403)
                contract.check_problem(self.daemon.get("/users/far", **headers), "forbidden", 403)

    def test_metrics_count_them(self) -> None:
        def counts() -> dict[str, int]:
            found = {}
            for line in self.daemon.get("/metrics").body.decode().splitlines():
                if line.startswith("recserver_events_total{"):
                    found[line.split('"')[1]] = int(float(line.split()[-1]))
            return found

        before = counts()
        event = {"user_id": "counted", "item_id": "film-00001", "event_id": "e"}
        self.daemon.events(event, event, event | {"event_id": "f"}, {})
        self.send({})
        gained = {k: v - before[k] for k, v in counts().items()}
        self.assertEqual(gained, {"stored": 2, "duplicate": 1, "refused": 2, "failed": 0})
        self.assertIn('route="/events",status="200"', self.daemon.get("/metrics").body.decode())


class NextAnswer(harness.Case):
    def metric(self, daemon: harness.Daemon, name: str) -> float:
        lines_ = daemon.get("/metrics").body.decode().splitlines()
        return next(float(line.split()[-1]) for line in lines_ if line.startswith(name + " "))

    def test_an_event_changes_the_very_next_answer_and_extends_what_is_encoded(self) -> None:
        daemon = self.start("--state-dir", str(harness.SCRATCH / "state-next"), "--eager-s", "0")
        user = "demo-scifi-1"
        known = harness.catalogue().history(user)
        first = daemon.recommend(user_id=user)
        self.assertEqual(daemon.recommend(user_id=user)["history"]["cache"], "hit")
        extended = 'recserver_history_cache_requests_total{result="extended"}'
        before = self.metric(daemon, extended), self.metric(daemon, "recserver_history_tokens_total")
        liked = first["items"][0]["item_id"]
        event = {"user_id": user, "item_id": liked, "action": "like", "timestamp": known[-1]["timestamp"] + 60}
        answer = daemon.events(event)
        second = daemon.recommend(user_id=user, min_sequence=answer["token"])
        self.assertEqual(second["history"]["events"], len(known) + 1)
        self.assertEqual(second["history"]["cache"], "extended")
        self.assertGreaterEqual(second["history"]["reused_tokens"], len(known) - 1)
        self.assertNotIn(liked, [item["item_id"] for item in second["items"]])
        self.assertNotEqual([i["score"] for i in second["items"]], [i["score"] for i in first["items"][1:]])
        after = self.metric(daemon, extended), self.metric(daemon, "recserver_history_tokens_total")
        self.assertEqual(after[0] - before[0], 1)
        self.assertLessEqual(after[1] - before[1], 2)
        # The same history brought by the caller gets the same answer.
        brought = daemon.recommend(
            user_id=user, history=known + [{k: event[k] for k in ("item_id", "action", "timestamp")}]
        )
        self.assertEqual([i["item_id"] for i in brought["items"]], [i["item_id"] for i in second["items"]])
        self.assert_close([i["score"] for i in second["items"]], [i["score"] for i in brought["items"]])

    def test_what_the_bundle_knows_of_a_user_is_shown_and_can_be_deleted(self) -> None:
        user = "demo-horror-2"
        known = harness.catalogue().history(user)
        held = self.daemon.user(user)
        self.assertEqual(held["total"], len(known))
        self.assertEqual([e["item_id"] for e in held["events"]], [e["item_id"] for e in known][-len(held["events"]) :])
        daemon = self.start("--state-dir", str(harness.SCRATCH / "state-known"))
        event = held["events"][-1]["event_id"]
        self.assertEqual(daemon.request("DELETE", f"/users/{user}/events/{event}").status, 204)
        self.assertEqual(daemon.user(user)["events"], held["events"][:-1])
        self.assertEqual(daemon.recommend(user_id=user)["history"]["events"], len(known) - 1)
        self.assertEqual(daemon.request("DELETE", "/users/" + user).status, 204)
        contract.check_problem(daemon.get("/users/" + user), "unknown-user", 404)
        self.assertEqual(daemon.recommend(user_id=user)["history"]["events"], 0)


class Tokens(harness.Case):
    def test_either_token_is_taken_once_it_is_reached(self) -> None:
        answer = self.daemon.events({"user_id": "token", "item_id": "film-00001"})
        for name in [answer["token"], answer["results"][0]["sequence"]]:
            self.daemon.recommend(user_id="token", min_sequence=name)
        self.daemon.recommend(user_id="somebody", min_sequence=answer["token"])
        self.daemon.recommend(min_sequence=answer["token"])
        batch = self.daemon.post(
            lines({"user_id": "token", "min_sequence": answer["token"]}, {"min_sequence": later(answer["token"], 9), "deadline_ms": 1}),
            Content_Type="application/x-ndjson",
        )
        first, second = map(json.loads, batch.body.splitlines())
        self.assertIn("items", first)
        self.assertEqual((second["status"], second["line"]), (412, 2))

    def test_a_token_that_is_none_or_anothers_is_refused(self) -> None:
        answer = self.daemon.events({"user_id": "mine", "item_id": "film-00001"})
        sequence = answer["results"][0]["sequence"]
        for wrong in ["x", "", sequence[:-1], sequence + "A", "A" * 65, "=", sequence[:-1] + "!"]:
            with self.subTest(wrong=wrong):
                problem = self.daemon.post({"user_id": "mine", "min_sequence": wrong})
                contract.check_problem(problem, "out-of-range", 400)
                contract.check_answer("/recommend", "POST", problem)
                self.assertEqual(problem.json["errors"][0]["pointer"], "/min_sequence")
        contract.check_problem(self.daemon.post({"min_sequence": 7}), "wrong-type", 400)
        for request in [{"user_id": "theirs"}, {}]:
            contract.check_problem(self.daemon.post(request | {"min_sequence": sequence}), "out-of-range", 400)

    def test_what_is_not_reached_is_a_412(self) -> None:
        answer = self.daemon.events({"user_id": "ahead", "item_id": "film-00001"})
        foreign = token(answer["token"])
        foreign[1] ^= 1
        for name in [
            later(answer["token"], 1_000_000),
            later(answer["results"][0]["sequence"], 1),
            text(foreign),
        ]:
            with self.subTest(token=name):
                problem = self.daemon.post({"user_id": "ahead", "min_sequence": name, "deadline_ms": 20})
                contract.check_problem(problem, "sequence-not-reached", 412)
                contract.check_answer("/recommend", "POST", problem)

    def test_a_request_waits_for_what_is_to_come(self) -> None:
        daemon = self.start("--compute-threads", "3", "--state-dir", str(harness.SCRATCH / "state-waits"))
        answer = daemon.events({"user_id": "coming", "item_id": "film-00001"})
        wanted = [later(answer["results"][0]["sequence"], 1), later(answer["token"], 1)]
        answers: list[Answer] = []

        def ask(name: str) -> None:
            answers.append(daemon.post({"user_id": "coming", "min_sequence": name, "deadline_ms": 10_000}))

        threads = [threading.Thread(target=ask, args=(name,)) for name in wanted]
        for thread in threads:
            thread.start()
        daemon.events({"user_id": "coming", "item_id": "film-00002"})
        for thread in threads:
            thread.join()
        self.assertEqual([a.status for a in answers], [200, 200], [a.body[:200] for a in answers])

    def test_waiting_leaves_a_thread_to_the_others(self) -> None:
        daemon = self.start("--compute-threads", "2", "--state-dir", str(harness.SCRATCH / "state-threads"))
        answer = daemon.events({"user_id": "never", "item_id": "film-00001"})
        never = later(answer["token"], 1_000_000)
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(daemon.post({"min_sequence": never, "deadline_ms": 2000}).status)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        self.assertEqual(daemon.post({"deadline_ms": 10_000}).status, 200)
        for thread in threads:
            thread.join()
        self.assertEqual(statuses, [412] * 8)


class Settings(harness.Case):
    def test_without_a_state_folder_nothing_is_kept(self) -> None:
        daemon = self.start()
        event = {"user_id": "u", "item_id": "film-00001"}
        for method, path, body in [
            ("POST", "/events", event),
            ("GET", "/users/u", b""),
            ("PUT", "/users/u", {}),
            ("PATCH", "/users/u", {}),
            ("DELETE", "/users/u", b""),
            ("DELETE", "/users/u/events/e", b""),
        ]:
            with self.subTest(method=method, path=path):
                answer = daemon.send(method, path, body)
                contract.check_problem(answer, "not-implemented", 501)
                self.assertIn("state_dir", answer.json["detail"])
        token = "AgAAAAAAAAAAAAAAAAAAAAA"
        contract.check_problem(daemon.post({"min_sequence": token}), "sequence-not-reached", 412)

    def test_unknown_items_are_kept_or_refused(self) -> None:
        events = [{"user_id": "u", "item_id": i} for i in ["film-00001", "no-such-film"]]
        self.assertEqual(self.daemon.events(*[e | {"user_id": "unknown"} for e in events])["stored"], 2)
        daemon = self.start("--unknown-items", "refuse", "--state-dir", str(harness.SCRATCH / "state-refuse"))
        answer = daemon.events(*events)
        self.assertEqual([r["status"] for r in answer["results"]], ["stored", "refused"])
        self.assertEqual(answer["results"][1]["problem"]["errors"][0]["pointer"], "/1/item_id")
        problem = daemon.send("POST", "/events", events[1])
        contract.check_problem(problem, "unknown-item", 404)
        contract.check_answer("/events", "POST", problem)

    def test_the_limits_can_be_set(self) -> None:
        daemon = self.start(
            "--events-max", "2", "--events-body-max", "1024", "--state-dir", str(harness.SCRATCH / "state-limits")
        )
        event = {"user_id": "u", "item_id": "film-00001"}
        self.assertEqual(daemon.events(event, event)["stored"], 2)
        contract.check_problem(daemon.send("POST", "/events", [event] * 3), "out-of-range", 400)
        contract.check_problem(daemon.send("POST", "/events", b" " * 1025), "content-too-large", 413)
        self.assertEqual(daemon.post(b"{}" + b" " * 2000).status, 200)


if __name__ == "__main__":
    unittest.main()
