"""/users: what is held of a user is shown, changed and deleted, and is there after a restart."""

import json
import threading
import unittest
from pathlib import Path
from typing import Any
from urllib.parse import quote

import contract
import harness
from harness import NOW, Answer

USER = "/users/{user_id}"
EVENT = "/users/{user_id}/events/{event_id}"


class Users(harness.Case):
    def ask(self, method: str, user: str, body: Any = b"", **headers: str) -> Answer:
        answer = self.daemon.send(method, "/users/" + quote(user, safe=""), body, **headers)
        contract.check_answer(USER, method, answer)
        return answer

    def remove_event(self, user: str, event: str) -> Answer:
        answer = self.daemon.send("DELETE", f"/users/{quote(user, safe='')}/events/{quote(event, safe='')}", b"")
        contract.check_answer(EVENT, "DELETE", answer)
        return answer

    def test_the_examples_are_answered(self) -> None:
        for method in ["PUT", "PATCH"]:
            media = contract.document()["paths"][USER][method.lower()]["requestBody"]["content"]
            for kind, body in media.items():
                for name, example in contract.examples(body).items():
                    with self.subTest(method=method, kind=kind, name=name):
                        self.assertEqual(self.ask(method, "examples", example, Content_Type=kind).status, 200)

    def test_of_a_stranger_nothing_is_held(self) -> None:
        for method in ["GET", "DELETE"]:
            contract.check_problem(self.ask(method, "stranger"), "unknown-user", 404)
        contract.check_problem(self.remove_event("stranger", "e"), "unknown-event", 404)

    def test_put_replaces(self) -> None:
        first = self.ask("PUT", "put", {"features": {"age": 34, "likes": ["a", "b"], "new": True}}).json
        self.assertEqual(first["features"], {"age": 34, "likes": ["a", "b"], "new": True})
        self.assertEqual((first["consent"], first["total"], first["events"]), (True, 0, []))
        second = self.ask("PUT", "put", {"features": {"country": "NO"}, "consent": False}).json
        self.assertEqual((second["features"], second["consent"]), ({"country": "NO"}, False))
        self.assertNotEqual(first["sequence"], second["sequence"])
        # Who opted out does not opt in by what is not said.
        third = self.ask("PUT", "put", {}).json
        self.assertEqual((third["features"], third["consent"]), ({}, False))
        held = self.daemon.user("put")
        self.assertEqual({k: held[k] for k in third if k != "request_id"}, {k: third[k] for k in third if k != "request_id"})

    def test_patch_merges(self) -> None:
        self.ask("PUT", "patch", {"features": {"a": "b", "c": 1, "d": ["y"]}})
        for patch, expected in [
            ({"features": {"a": "z"}}, {"a": "z", "c": 1, "d": ["y"]}),
            ({"features": {"a": None, "e": False}}, {"c": 1, "d": ["y"], "e": False}),
            ({"features": {"d": ["q", "r"]}}, {"c": 1, "d": ["q", "r"], "e": False}),
            ({}, {"c": 1, "d": ["q", "r"], "e": False}),
            ({"consent": False}, {"c": 1, "d": ["q", "r"], "e": False}),
            ({"features": None}, {}),
        ]:
            for kind in ["application/merge-patch+json", "application/json"]:
                answer = self.ask("PATCH", "patch", patch, Content_Type=kind)
                self.assertEqual(answer.json["features"], expected)
        self.assertFalse(self.daemon.user("patch")["consent"])
        self.assertEqual(self.ask("PATCH", "patch-new", {"features": {"a": 1}}).json["features"], {"a": 1})

    def test_patches_at_once_are_all_there(self) -> None:
        def patch(index: int) -> None:
            self.ask("PATCH", "at-once", {"features": {f"f{index}": index}})

        threads = [threading.Thread(target=patch, args=(index,)) for index in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.daemon.user("at-once")["features"], {f"f{i}": i for i in range(32)})

    def test_wrong_bodies_change_nothing(self) -> None:
        before = self.ask("PUT", "wrong", {"features": {"a": 1}}).json["sequence"]
        for body, kind, status in [
            (b"", "malformed-json", 400),
            (b"{", "malformed-json", 400),
            ([], "wrong-type", 400),
            ({"consent": "no"}, "wrong-type", 400),
            ({"features": []}, "wrong-type", 400),
            ({"features": {"a": {}}}, "wrong-type", 400),
            ({"feature": {}}, "unknown-field", 400),
            ({"features": {str(i): 1 for i in range(257)}}, "out-of-range", 400),
            ({"features": {"a": ["x"] * 65}}, "out-of-range", 400),
            ({"features": {"a": "x" * 65_536}}, "out-of-range", 400),
        ]:
            for method in ["PUT", "PATCH"]:
                with self.subTest(method=method, body=str(body)[:60]):
                    contract.check_problem(self.ask(method, "wrong", body), kind, status)
        contract.check_problem(self.ask("PATCH", "wrong", {"consent": None}), "wrong-type", 400)
        many = {str(i): 1 for i in range(256)}
        contract.check_problem(self.ask("PATCH", "wrong", {"features": many}), "out-of-range", 400)
        for method, kind in [("PUT", "application/merge-patch+json"), ("PATCH", "text/plain"), ("PUT", "")]:
            answer = self.ask(method, "wrong", {}, Content_Type=kind)
            contract.check_problem(answer, "unsupported-media-type", 415)
        for path in ["/users/%zz", "/users/%ff", "/users/" + "x" * 129, "/users/u/events/%zz"]:
            self.assertEqual(self.daemon.request("DELETE", path).status, 400, path)
        self.assertEqual(self.daemon.user("wrong")["sequence"], before)

    def test_an_event_is_deleted(self) -> None:
        events = [
            {"user_id": "less", "item_id": "film-00001", "event_id": name, "timestamp": NOW}
            for name in ["a", "b/ü %", "c"]
        ]
        self.daemon.events(*events)
        before = self.daemon.user("less")["sequence"]
        contract.check_problem(self.remove_event("less", "d"), "unknown-event", 404)
        answer = self.remove_event("less", "b/ü %")
        self.assertEqual((answer.status, answer.body), (204, b""))
        contract.check_problem(self.remove_event("less", "b/ü %"), "unknown-event", 404)
        held = self.daemon.user("less")
        self.assertEqual([e["event_id"] for e in held["events"]], ["a", "c"])
        self.assertNotEqual(held["sequence"], before)

    def test_a_user_is_deleted(self) -> None:
        user = "gone/é %"
        self.daemon.events({"user_id": user, "item_id": "film-00001", "event_id": "e"})
        self.ask("PUT", user, {"features": {"a": 1}, "consent": True})
        self.daemon.recommend(user_id=user)
        answer = self.ask("DELETE", user)
        self.assertEqual((answer.status, answer.body), (204, b""))
        for method in ["GET", "DELETE"]:
            contract.check_problem(self.ask(method, user), "unknown-user", 404)
        stranger = self.daemon.recommend(user_id="stranger-1", explain=True)
        gone = self.daemon.recommend(user_id=user, explain=True)
        self.assertEqual(gone["items"], stranger["items"])
        self.assertEqual(gone["history"], stranger["history"])
        # Who comes back begins anew, and a sequence from before is not taken for one of now.
        back = self.daemon.events({"user_id": user, "item_id": "film-00002", "event_id": "e"})
        self.assertEqual(back["stored"], 1)
        held = self.daemon.user(user)
        self.assertEqual((held["total"], held["features"]), (1, {}))

    def test_without_consent_events_are_refused_and_what_was_stays(self) -> None:
        event = {"user_id": "opted", "item_id": "film-00001", "event_id": "e", "timestamp": NOW}
        self.daemon.events(event)
        self.ask("PATCH", "opted", {"consent": False})
        alone = self.daemon.send("POST", "/events", event | {"event_id": "f"})
        contract.check_problem(alone, "no-consent", 403)
        contract.check_answer("/events", "POST", alone)
        both = self.daemon.events(event | {"event_id": "g"}, event | {"user_id": "opted-not"})
        self.assertEqual([r["status"] for r in both["results"]], ["refused", "stored"])
        self.assertEqual((both["results"][0]["problem"]["status"], both["results"][0]["event_id"]), (403, "g"))
        self.assertEqual(self.daemon.user("opted")["total"], 1)
        self.ask("PATCH", "opted", {"consent": True})
        self.assertEqual(self.daemon.events(event | {"event_id": "f"})["stored"], 1)


class Restart(harness.Case):
    def test_all_of_it_is_there_after_a_restart(self) -> None:
        folder = harness.SCRATCH / "state-restart"
        daemon = self.start("--state-dir", str(folder))
        event = {"item_id": "film-00001", "action": "watch", "timestamp": NOW + 0.125, "value": 1.5}
        event |= {"event_id": "e-1", "recommendation_id": "r", "position": 7}
        answer = daemon.events(event | {"user_id": "kept"}, event | {"user_id": "erased"})
        daemon.send("PUT", "/users/kept", {"features": {"age": 3, "l": ["é"]}, "consent": False})
        daemon.send("DELETE", "/users/erased", b"")
        before = daemon.user("kept")
        daemon.stop(self)
        daemon = self.start("--state-dir", str(folder))
        after = daemon.user("kept")
        self.assertEqual(before | {"request_id": ""}, after | {"request_id": ""})
        self.assertEqual(after["events"], [event])
        contract.check_problem(daemon.get("/users/erased"), "unknown-user", 404)
        daemon.recommend(user_id="kept", min_sequence=answer["token"])
        daemon.recommend(user_id="kept", min_sequence=after["sequence"])
        daemon.send("PATCH", "/users/kept", {"consent": True})
        again = daemon.events(event | {"user_id": "kept"}, event | {"user_id": "kept", "event_id": "e-2"})
        self.assertEqual([r["status"] for r in again["results"]], ["duplicate", "stored"])
        daemon.stop(self)
        # A folder made anew is another store: what was promised of the old one is not taken for granted.
        daemon = self.start("--state-dir", str(harness.SCRATCH / "state-restart-2"))
        problem = daemon.post({"user_id": "kept", "min_sequence": answer["token"]})
        contract.check_problem(problem, "sequence-not-reached", 412)

    def test_a_deletion_is_written_down_without_the_id(self) -> None:
        daemon = self.start("--state-dir", str(harness.SCRATCH / "state-audit"), "--log-level", "error")
        user = "somebody-with-a-name"
        daemon.events({"user_id": user, "item_id": "film-00001", "event_id": "named-event"})
        daemon.request("DELETE", f"/users/{user}/events/named-event", headers={"X-Request-Id": "audit-1"})
        daemon.request("DELETE", f"/users/{user}", headers={"X-Request-Id": "audit-2"})
        daemon.request("DELETE", f"/users/{user}", headers={"X-Request-Id": "audit-3"})
        log = Path(daemon.log.name).read_text()
        found = [json.loads(line) for line in log.splitlines() if "audit" in line]
        self.assertEqual(
            [(f["message"], f["request_id"], f["level"]) for f in found],
            [("event deleted", "audit-1", "notice"), ("user deleted", "audit-2", "notice")],
        )
        self.assertEqual(len({f["user"] for f in found}), 1)
        self.assertRegex(found[0]["user"], "^[0-9a-f]{32}$")
        self.assertNotIn("somebody", log)
        self.assertNotIn("named-event", log)


if __name__ == "__main__":
    unittest.main()
