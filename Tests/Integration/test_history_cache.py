"""The history cache over HTTP: what answers say of it, what the admin listener does to it, and that it changes no score."""

import random

import harness
from test_metrics import parse
from test_swap import AdminDaemon, second


class HistoryCache(harness.Case):
    def events(self, rng: random.Random, count: int) -> list[dict]:
        items = harness.catalogue().items
        start = harness.NOW - 1_000_000
        return [
            {"item_id": rng.choice(items), "action": rng.choice(["view", "like"]), "timestamp": start + 600 * i}
            for i in range(count)
        ]

    def ask(self, daemon: harness.Daemon, user: str | None, history: list[dict], **more) -> dict:
        who = {} if user is None else {"user_id": user}
        answer = daemon.post(
            {"history": history, "now": harness.NOW, "degrade": "never", "deadline_ms": 10_000, "n": 50} | who | more
        )
        self.assertEqual(answer.status, 200, answer.body[:300])
        return answer.json

    def test_a_history_is_missed_then_hit_then_extended(self) -> None:
        daemon = self.start()
        history = self.events(random.Random(1), 40)
        known = [self.ask(daemon, "c1", history)["history"] for _ in range(2)]
        self.assertEqual([k["cache"] for k in known], ["miss", "hit"])
        self.assertEqual(known[0]["reused_tokens"], 0)
        self.assertGreaterEqual(known[1]["reused_tokens"], 39)
        longer = history + self.events(random.Random(2), 41)[-1:]
        known = self.ask(daemon, "c1", longer)["history"]
        self.assertEqual(known["cache"], "extended")
        self.assertGreaterEqual(known["reused_tokens"], 39)
        edited = [history[0], history[1] | {"item_id": history[2]["item_id"]}] + history[2:]
        known = self.ask(daemon, "c1", edited)["history"]
        self.assertIn(known["cache"], ("extended", "miss"))
        self.assertLessEqual(known["reused_tokens"], 1)
        self.assertEqual(self.ask(daemon, None, history)["history"]["cache"], "none")

    def test_the_cache_changes_no_answer(self) -> None:
        with_cache = self.start("--history-cache-bytes", str(2 << 20))
        without = self.start("--history-cache-bytes", "0")
        rng = random.Random(3)
        histories: dict[str, list[dict]] = {f"h{i}": self.events(rng, rng.randrange(1, 80)) for i in range(12)}
        outcomes = set()
        for _ in range(300):
            user = rng.choice(list(histories))
            history = histories[user]
            match rng.randrange(5):
                case 0:
                    history.extend(self.events(rng, len(history) + 2)[-2:])
                case 1:
                    history[rng.randrange(len(history))] = rng.choice(self.events(rng, 50))
                case 2 if len(history) > 1:
                    del history[rng.randrange(len(history))]
            more = {"session": self.events(rng, 3)} if rng.random() < 0.2 else {}
            ours, theirs = (self.ask(d, user, history, explain=True, **more) for d in (with_cache, without))
            outcomes.add(ours["history"]["cache"])
            self.assertEqual(theirs["history"]["cache"], "none")
            a, b = ({item["item_id"]: item for item in answer["items"]} for answer in (ours, theirs))
            same = [item for item in a if item in b]
            # Items whose scores agree to the last digits may change places at the page's end.
            self.assertGreaterEqual(len(same), len(b) - 1)
            self.assert_close([a[i]["score"] for i in same], [b[i]["score"] for i in same])
            scores = [[x[i]["explain"]["sequence_score"] for i in same] for x in (a, b)]
            self.assert_close(*scores)
        self.assertEqual(outcomes, {"hit", "extended", "miss"})
        _, values = parse(with_cache.get("/metrics").body.decode())
        self.assertLessEqual(
            values["recserver_history_cache_bytes"], values["recserver_history_cache_limit_bytes"]
        )
        self.assertGreater(values["recserver_history_cache_tokens_reused_total"], 0)

    def start_with_admin(self) -> AdminDaemon:
        daemon = AdminDaemon()
        self.addCleanup(daemon.stop, self)
        return daemon

    def test_the_admin_listener_warms_and_forgets(self) -> None:
        daemon = self.start_with_admin()
        user = "demo-scifi-1"
        known = lambda: daemon.recommend(user_id=user)["history"]["cache"]  # noqa: E731
        self.assertEqual(daemon.admin("POST", "/cache/warm?wait=true", {"users": [user, "nobody"]}).status, 200)
        self.assertEqual(known(), "hit")
        self.assertEqual(daemon.admin("DELETE", f"/cache/users/{user}").status, 200)
        self.assertEqual(known(), "miss")
        self.assertEqual(daemon.admin("DELETE", "/cache").status, 200)
        self.assertEqual(known(), "miss")
        for cause in ("user", "cleared"):
            series = f'recserver_history_cache_evictions_total{{cause="{cause}"}}'
            self.assertEqual(daemon.metric(series), 1)
        self.assertEqual(daemon.admin("POST", "/cache/warm", {"users": [7]}).status, 400)
        self.assertEqual(daemon.admin("GET", "/cache").status, 405)

    def test_a_new_version_begins_with_the_users_seen_last(self) -> None:
        daemon = self.start_with_admin()
        history = self.events(random.Random(5), 30)
        self.ask(daemon, "mine", history)
        daemon.recommend(user_id="demo-horror-1")
        answer = daemon.load(second())
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(self.ask(daemon, "mine", history)["history"]["cache"], "hit")
        answer = daemon.recommend(user_id="demo-horror-1")
        self.assertEqual((answer["model_version"], answer["history"]["cache"]), (second().name, "hit"))
