"""Pages of a slate by cursor: many users at once, through swaps and restarts, with little room."""

import http.client
import json
import threading
from typing import Any
from zlib import crc32

import harness
from harness import NOW, Answer, catalogue
from test_swap import AdminDaemon, first, second

PAGES = 20
SIZE = 20


class Reader:
    """One connection that pages."""

    def __init__(self, daemon: harness.Daemon) -> None:
        self.connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=harness.patience())

    def post(self, path: str, body: Any) -> Answer:
        headers = {"Content-Type": "application/json"}
        self.connection.request("POST", path, json.dumps(body).encode(), headers)
        answer = self.connection.getresponse()
        return Answer(answer.status, {}, answer.read())

    def close(self) -> None:
        self.connection.close()


def begin(user: str, **more: Any) -> dict[str, Any]:
    """A first page that is the same whenever it is asked for."""
    history = [{"item_id": item, "timestamp": NOW - 50} for item in catalogue().items[crc32(user.encode()) % 500 :: 997]]
    return {
        "user_id": user,
        "history": history,
        "now": NOW,
        "n": SIZE,
        "degrade": "never",
        "deadline_ms": 10_000,
    } | more


class CursorTests(harness.Case):
    def test_many_users_page_through_swaps_without_a_gap(self) -> None:
        daemon = AdminDaemon("--cursor-bytes", str(1 << 28), "--queue-depth", "1024")
        self.addCleanup(daemon.stop, self)
        users = [f"reader-{i}" for i in range(1000 if harness.FULL else 100)]
        slates: dict[str, list[Any]] = {}
        problems: list[str] = []
        barrier = threading.Barrier(5)

        def read(part: list[str]) -> None:
            reader = Reader(daemon)
            try:
                for user in part:
                    slates[user] = [reader.post("/recommend", begin(user)).json]
                # All slates were made by the first version, and are read while others come.
                barrier.wait()
                for page in range(1, PAGES):
                    for user in part:
                        cursor = slates[user][-1]["next_cursor"]
                        answer = reader.post("/recommend", {"cursor": cursor})
                        if answer.status != 200:
                            problems.append(f"{user} page {page}: {answer.body!r}")
                            return
                        slates[user].append(answer.json)
            finally:
                reader.close()

        threads = [threading.Thread(target=read, args=(users[i::4],)) for i in range(4)]
        for thread in threads:
            thread.start()
        barrier.wait()
        for bundle in (second(), first(), second()):
            self.assertEqual(daemon.load(bundle).status, 200)
            daemon.admin("DELETE", f"/bundles/{'swap-a' if bundle == second() else 'swap-b'}")
            daemon.wait_until_freed()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])
        for user, pages in slates.items():
            ids = [item["item_id"] for page in pages for item in page["items"]]
            self.assertEqual(len(ids), PAGES * SIZE, user)
            self.assertEqual(len(set(ids)), len(ids), user)
            self.assertEqual({page["model_version"] for page in pages}, {"swap-a"})
            self.assertEqual(len({page["recommendation_id"] for page in pages}), 1)
            scores = [item["score"] for page in pages for item in page["items"]]
            self.assertEqual(scores, sorted(scores, reverse=True))
        # The pages of a user are one slate: what the same version answers at once.
        with_all = AdminDaemon()
        self.addCleanup(with_all.stop, self)
        for user in users[:20]:
            whole = with_all.recommend(**begin(user, n=PAGES * SIZE))["items"]
            self.assertEqual([i for page in slates[user] for i in page["items"]], whole)

    def test_a_slate_that_is_gone_is_410_and_never_another_list(self) -> None:
        daemon = AdminDaemon("--cursor-bytes", "200000")
        self.addCleanup(daemon.stop, self)
        firsts = {f"u{i}": daemon.recommend(**begin(f"u{i}")) for i in range(60)}
        held = {}
        for user, page in firsts.items():
            answer = daemon.post({"cursor": page["next_cursor"]})
            self.assertIn(answer.status, (200, 410))
            if answer.status == 410:
                self.assertEqual(answer.kind, "cursor-expired")
            else:
                self.assertEqual(answer.json["recommendation_id"], page["recommendation_id"])
                held[user] = page
        self.assertTrue(0 < len(held) < 60)
        self.assertLessEqual(daemon.metric("recserver_cursor_bytes"), 200_000)
        # Text takes more room: fewer are held behind a swap, and those are the same.
        pages = {user: daemon.post({"cursor": page["next_cursor"]}).json for user, page in held.items()}
        daemon.load(second())
        daemon.admin("DELETE", "/bundles/swap-a")
        daemon.wait_until_freed()
        left = 0
        for user, page in held.items():
            answer = daemon.post({"cursor": page["next_cursor"]})
            self.assertIn(answer.status, (200, 410))
            if answer.status == 200:
                left += 1
                self.assertEqual(answer.json["items"], pages[user]["items"])
        self.assertTrue(0 < left < len(held))
        self.assertLessEqual(daemon.metric("recserver_cursor_bytes"), 200_000)
        other = AdminDaemon()
        self.addCleanup(other.stop, self)
        for page in firsts.values():
            self.assertEqual(other.post({"cursor": page["next_cursor"]}).status, 410)

    def test_no_budget_no_cursors(self) -> None:
        daemon = self.start("--cursor-bytes", "0")
        self.assertIsNone(daemon.recommend(user_id="demo-scifi-1")["next_cursor"])

    def test_everybody_can_page(self) -> None:
        for body in ({}, {"user_id": "demo-scifi-1"}, {"query_items": ["film-00010"]}):
            ids, page = [], self.daemon.recommend(**body, n=100)
            while True:
                ids += [item["item_id"] for item in page["items"]]
                if page["next_cursor"] is None:
                    break
                page = self.daemon.post({"cursor": page["next_cursor"], "n": 150}).json
            # A basket's sources find fewer than a slate holds.
            self.assertGreaterEqual(len(ids), 300 if "query_items" in body else 500, body)
            self.assertEqual(len(set(ids)), len(ids))
