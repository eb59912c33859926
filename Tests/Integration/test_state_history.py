"""What is kept of users in /recommend: the next answer knows it, keys and values are extended, and nothing is left of
what was taken back."""

import random
import time
from typing import Any

import harness
from harness import NOW
from test_metrics import parse
from test_swap import AdminDaemon, second

OLD = NOW - 1_000_000


def event(user: str, number: int, item: str | None = None, action: str = "watch", **more: Any) -> dict[str, Any]:
    return {
        "user_id": user,
        "item_id": item or f"film-{1 + 97 * number % 4000:05}",
        "action": action,
        "timestamp": OLD + 600 * number,
        "event_id": f"e{number}",
    } | more


class StateHistory(harness.Case):
    def begin(self, *flags: str, **options: Any) -> harness.Daemon:
        """A daemon with user state of its own, in which nothing is too late."""
        self.folders = getattr(self, "folders", 0) + 1
        folder = harness.SCRATCH / f"state-{self.id()}-{self.folders}"
        return self.start("--state-dir", str(folder), "--event-window-s", "315360000", *flags, **options)

    def ids(self, answer: dict[str, Any]) -> list[str]:
        return [item["item_id"] for item in answer["items"]]

    def metric(self, daemon: harness.Daemon, series: str) -> float:
        return parse(daemon.get("/metrics").body.decode())[1].get(series, 0)

    def wait_for(self, what: Any) -> None:
        limit = time.monotonic() + harness.patience()
        while not what():
            self.assertLess(time.monotonic(), limit, "it did not come")
            time.sleep(0.05)

    def delete(self, daemon: harness.Daemon, path: str) -> int:
        return daemon.request("DELETE", path).status

    def test_an_event_is_in_the_very_next_answer_and_extends_what_was_encoded(self) -> None:
        daemon = self.begin("--eager-s", "0")
        answer = daemon.events(*[event("a", i) for i in range(30)])
        first = daemon.recommend(user_id="a", min_sequence=answer["token"])
        self.assertEqual((first["history"]["events"], first["history"]["cache"]), (30, "miss"))
        self.assertEqual(daemon.recommend(user_id="a")["history"]["cache"], "hit")
        before = first
        misses = 0
        for number in range(30, 130):
            token = daemon.events(event("a", number))["token"]
            answer = daemon.recommend(user_id="a", min_sequence=token)
            known = answer["history"]
            self.assertEqual(known["events"], number + 1)
            # 64 events, in steps of 16: a window that moves on is encoded anew.
            slides = number >= 64 and (number - 64) % 16 == 0
            self.assertEqual(known["cache"], "miss" if slides else "extended", number)
            if not slides:
                self.assertGreaterEqual(known["reused_tokens"], min(number, 48) - 1)
            misses += slides
            self.assertNotEqual(answer["items"], before["items"])
            self.assertNotIn(event("a", number)["item_id"], self.ids(answer))
            before = answer
        series = "recserver_history_cache_requests_total"
        self.assertEqual(self.metric(daemon, series + '{result="miss"}'), 1 + misses)
        self.assertEqual(self.metric(daemon, series + '{result="extended"}'), 100 - misses)

    def test_a_bundles_history_goes_on(self) -> None:
        daemon = self.begin("--eager-s", "0")
        user = "demo-scifi-1"
        before = daemon.recommend(user_id=user)
        count = len(harness.catalogue().history(user))
        self.assertEqual(before["history"]["events"], count)
        daemon.events({"user_id": user, "item_id": "film-00007", "action": "like", "event_id": "x"})
        held = daemon.user(user)
        self.assertEqual((held["total"], len(held["events"])), (count + 1, count + 1))
        after = daemon.recommend(user_id=user)
        self.assertEqual((after["history"]["events"], after["history"]["cache"]), (count + 1, "extended"))
        self.assertEqual(self.delete(daemon, f"/users/{user}/events/x"), 204)
        again = daemon.recommend(user_id=user)
        self.assertEqual(again["items"], before["items"])

    def test_a_kept_history_answers_as_the_same_one_given(self) -> None:
        daemon = self.begin()
        for user, count in [("s1", 5), ("s2", 64), ("s3", 90)]:
            events = [event(user, i) for i in range(count)]
            daemon.events(*events)
            given = [{k: e[k] for k in ("item_id", "action", "timestamp")} for e in events]
            session = [{"item_id": "film-00009", "action": "like", "timestamp": NOW - 5}]
            for more in [{}, {"session": session}, {"n": 50, "exclude_seen": False}]:
                ours = daemon.recommend(user_id=user, **more)
                theirs = daemon.recommend(user_id="twin-of-" + user, history=given, **more)
                self.assertEqual(ours["items"], theirs["items"])
                self.assertEqual(ours["history"]["events"], theirs["history"]["events"])
            # The request's own replaces it.
            self.assertEqual(daemon.recommend(user_id=user, history=given[:3])["history"]["events"], 3)
            self.assertEqual(daemon.user(user)["total"], count)

    def test_of_a_deleted_user_no_answer_knows_anything(self) -> None:
        daemon = self.begin()
        for user in ["stranger", "demo-horror-1"]:
            cold = daemon.recommend(user_id="never-seen")
            daemon.events(*[event(user, i) for i in range(10)])
            self.assertNotEqual(daemon.recommend(user_id=user)["items"], cold["items"])
            self.assertEqual(self.delete(daemon, "/users/" + user), 204)
            answer = daemon.recommend(user_id=user)
            # Also the bundle's own row, features and history of the user are not used.
            self.assertEqual(answer["items"], daemon.recommend(user_id="never-seen")["items"])
            self.assertEqual(answer["history"], {"events": 0, "unknown": 0, "cache": "none", "reused_tokens": 0})
            # The user may come back, as another one.
            daemon.events(event(user, 50))
            self.assertEqual(daemon.recommend(user_id=user)["history"]["events"], 1)

    def test_seen_items_are_left_out_also_beyond_the_window(self) -> None:
        daemon = self.begin()
        popular = self.ids(daemon.recommend(n=8))
        daemon.events(
            *[event("seen", i, item, "like" if i % 2 else "watch") for i, item in enumerate(popular)],
            *[event("seen", i, "film-00100", "buy") for i in range(8, 150)],
        )
        rank = lambda **more: set(  # noqa: E731
            self.ids(daemon.recommend(user_id="seen", candidates=[{"item_id": i} for i in popular + ["film-00100"]], **more))
        )
        self.assertEqual(rank(exclude_seen=True), set())
        self.assertEqual(rank(), set(popular) | {"film-00100"})
        self.assertEqual(rank(exclude_seen={"actions": ["like"]}), set(popular[::2]) | {"film-00100"})
        # The model has no such action; it is the caller's own.
        self.assertEqual(rank(exclude_seen={"actions": ["buy"]}), set(popular))
        within = NOW - (OLD + 600 * 4)
        self.assertEqual(rank(exclude_seen={"within_s": within}), set(popular[:4]))
        self.assertTrue(set(popular).isdisjoint(self.ids(daemon.recommend(user_id="seen", n=50))))

    def test_without_consent_nothing_is_used_and_nothing_kept(self) -> None:
        daemon = self.begin()
        cold = daemon.recommend(user_id="never-seen")
        user = "demo-comedy-1"
        warm = daemon.recommend(user_id=user)
        self.assertNotEqual(warm["items"], cold["items"])
        self.assertEqual(daemon.send("PATCH", "/users/" + user, {"consent": False}).status, 200)
        for _ in range(2):
            answer = daemon.recommend(user_id=user)
            self.assertEqual((answer["items"], answer["history"]["cache"]), (cold["items"], "none"))
        given = daemon.recommend(user_id=user, history=[{"item_id": "film-00001"}])
        self.assertEqual((given["history"]["events"], given["history"]["cache"]), (1, "none"))
        self.assertEqual(daemon.send("PATCH", "/users/" + user, {"consent": True}).status, 200)
        self.assertEqual(daemon.recommend(user_id=user)["items"], warm["items"])

    def test_kept_features_come_before_the_bundles_and_after_the_requests(self) -> None:
        daemon = self.begin()
        user = "demo-romance-1"
        own = daemon.recommend(user_id=user, user={"age": 70, "language": "Korean"})
        self.assertEqual(daemon.send("PUT", "/users/" + user, {"features": {"age": 70, "language": "Korean"}}).status, 200)
        self.assertEqual(daemon.recommend(user_id=user)["items"], own["items"])
        other = daemon.recommend(user_id=user, user={"age": 20, "language": "French"})
        self.assertNotEqual(other["items"], own["items"])

    def test_a_new_version_begins_with_kept_histories(self) -> None:
        folder = harness.SCRATCH / f"state-{self.id()}"
        daemon = AdminDaemon("--state-dir", str(folder), "--event-window-s", "315360000")
        self.addCleanup(daemon.stop, self)
        users = [f"swap-{i}" for i in range(4)] + ["demo-horror-1"]
        for user in users:
            daemon.events(*[event(user, i) for i in range(20)])
            self.assertEqual(daemon.recommend(user_id=user)["history"]["cache"], "miss")
        self.assertEqual(self.delete(daemon, "/users/" + users[0]), 204)
        self.assertEqual(daemon.load(second()).status, 200)
        for user in users[1:]:
            answer = daemon.recommend(user_id=user)
            self.assertEqual((answer["model_version"], answer["history"]["cache"]), (second().name, "hit"))
        self.assertEqual(daemon.recommend(user_id=users[0])["history"]["cache"], "none")
        self.assertEqual(daemon.admin("DELETE", "/cache").status, 200)
        self.assertEqual(daemon.admin("POST", "/cache/warm?wait=true", {"users": users}).status, 200)
        self.assertEqual(daemon.recommend(user_id=users[2])["history"]["cache"], "hit")

    def test_new_events_of_users_who_were_here_are_encoded_before_they_ask(self) -> None:
        daemon = self.begin("--eager-s", "300")
        daemon.events(*[event("eager", i) for i in range(20)], *[event("lazy", i) for i in range(20)])
        self.assertEqual(daemon.recommend(user_id="eager")["history"]["cache"], "miss")
        daemon.events(event("eager", 20), event("lazy", 20))
        encoded = 'recserver_eager_users_total{result="encoded"}'
        self.wait_for(lambda: self.metric(daemon, encoded) == 1)
        self.assertEqual(daemon.recommend(user_id="eager")["history"]["cache"], "hit")
        # Nobody had seen this one: the next request does it.
        self.assertEqual(daemon.recommend(user_id="lazy")["history"]["cache"], "miss")

    def test_events_make_items_popular_and_the_erased_users_do_not(self) -> None:
        flags = ("--popularity-by", "country")
        daemon = self.begin(*flags)
        bundle = daemon.recommend(n=50)
        self.assertEqual(bundle["score_kind"], "popularity")
        rare, german = "film-03000", "film-03001"
        now = int(time.time())
        for user, country, item in [("fr", "FR", rare), ("de", "DE", german)]:
            self.assertEqual(daemon.send("PUT", "/users/" + user, {"features": {"country": country}}).status, 200)
            daemon.events(*[event(user, i, item, timestamp=now) for i in range(500 if user == "fr" else 400)])
        self.wait_for(lambda: self.ids(daemon.recommend())[0] == rare)
        # They are counted a little after they are durable, the later user's after the earlier one's.
        self.wait_for(lambda: self.ids(daemon.recommend(user={"country": "DE"}))[0] == german)
        cold = daemon.recommend(user={"country": "DE"})
        self.assertEqual((cold["score_kind"], self.ids(cold)[0]), ("popularity", german))
        # Kept features count as the request's do.
        self.assertEqual(daemon.send("PUT", "/users/new", {"features": {"country": "DE"}}).status, 200)
        self.assertEqual(self.ids(daemon.recommend(user_id="new")), self.ids(cold))
        # They are made from what is kept.
        folder = str(harness.SCRATCH / f"state-{self.id()}-1")
        daemon.stop(self)
        again = self.start("--state-dir", folder, *flags)
        self.wait_for(lambda: self.ids(again.recommend())[0] == rare)
        self.wait_for(lambda: self.ids(again.recommend(user={"country": "DE"}))[0] == german)
        for user in ["fr", "de"]:
            self.assertEqual(self.delete(again, "/users/" + user), 204)
        self.wait_for(lambda: again.recommend(n=50)["items"] == bundle["items"])

    def test_the_cache_changes_no_answer_of_a_changing_history(self) -> None:
        cached, plain = self.begin(), self.begin("--history-cache-bytes", "0", "--eager-s", "0")
        rng = random.Random(11)
        users = {f"r{i}": [0] for i in range(6)}
        outcomes = set()
        for _ in range(250):
            user = rng.choice(list(users))
            made = users[user]
            match rng.randrange(8):
                case 0 if made[-1] > 0:
                    path = f"/users/{user}/events/e{rng.randint(1, made[-1])}"
                    self.assertEqual(self.delete(cached, path), self.delete(plain, path))
                case 1 if rng.random() < 0.2:
                    self.assertEqual(self.delete(cached, "/users/" + user), self.delete(plain, "/users/" + user))
                case 2:
                    pass
                case _:
                    for _ in range(rng.randint(1, 4)):
                        number = made[-1] + 1
                        made.append(number)
                        item = "no-such-film" if rng.random() < 0.1 else f"film-{rng.randint(1, 4000):05}"
                        late = rng.randint(1, 20) * 600 if rng.random() < 0.2 else 0
                        new = event(user, number, item, rng.choice(["watch", "like", "buy"]))
                        new["timestamp"] -= late
                        for daemon in (cached, plain):
                            daemon.events(new)
            more = {"session": [{"item_id": "film-00005", "timestamp": NOW - 1}]} if rng.random() < 0.2 else {}
            ours, theirs = (d.recommend(user_id=user, n=50, explain=True, **more) for d in (cached, plain))
            outcomes.add(ours["history"]["cache"])
            self.assertEqual(ours["history"]["events"], theirs["history"]["events"])
            a, b = ({item["item_id"]: item for item in answer["items"]} for answer in (ours, theirs))
            same = [item for item in a if item in b]
            self.assertGreaterEqual(len(same), len(b) - 1)
            self.assert_close([a[i]["score"] for i in same], [b[i]["score"] for i in same])
        self.assertGreaterEqual(outcomes, {"hit", "extended", "miss"})
