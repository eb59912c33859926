"""The join of slates and events: who is credited with what, and what a trainer then reads."""

import json
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from recserver_train import feedback  # noqa: E402

DEMO = ROOT.parent / "deploy/demo-bundle"
SHOWN = 1_000_000.0


def slate(name: str, items: str, time: float = SHOWN, first: int = 0, **more: Any) -> dict[str, Any]:
    """A line of the log; items are letters."""
    return {
        "time": time,
        "recommendation_id": name,
        "model_version": "m-1",
        "score_kind": "value",
        "sample_rate": 0.5,
        "items": [
            {"item_id": item, "position": first + i, "score": 1.0 - i, "propensity": 1}
            for i, item in enumerate(items)
        ],
    } | more


def event(user: str, item: str, after: float, slate: str | None = None, **more: Any) -> dict[str, Any]:
    """A line of an export, `after` seconds behind SHOWN."""
    line = {"type": "event", "user_id": user, "item_id": item, "action": "watch", "timestamp": SHOWN + after}
    return line | ({"recommendation_id": slate} if slate else {}) | more


class Feedback(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def join(self, slates: list[Any], events: list[Any], **options: float) -> feedback.Joined:
        text = "".join(json.dumps(line) + "\n" for line in slates)
        (self.folder / "slates-0000000001.ndjson").write_text(text)
        path = self.folder / "events.ndjson"
        path.write_text("".join(json.dumps(line) + "\n" for line in events))
        return feedback.join(feedback.read_slates(self.folder), feedback.read_events(path), **options)

    def credited(self, joined: feedback.Joined) -> list[tuple[str, str, str, int]]:
        return [(e.user_id, e.action, i.recommendation_id, i.position) for e, i in joined.credited]

    def test_an_event_that_names_a_slate_is_credited_to_its_item_there(self) -> None:
        joined = self.join(
            [slate("r1", "abc"), slate("r2", "cab", time=SHOWN + 5)],
            [
                event("u", "c", 10, "r1"),
                event("u", "a", 11, "r2", position=1),
                event("u", "a", 12, "r2", action="like"),
                event("u", "b", 13),
            ],
        )
        self.assertEqual(
            self.credited(joined),
            [("u", "watch", "r1", 2), ("u", "watch", "r2", 1), ("u", "like", "r2", 1)],
        )
        self.assertEqual(joined.refused, {})
        lines = [i.line() for i in joined.impressions]
        self.assertEqual([line["clicked"] for line in lines], [False, False, True, False, True, False])
        self.assertEqual(lines[4]["actions"], {"like": 1, "watch": 1})
        self.assertEqual({line["user_id"] for line in lines}, {"u"})
        self.assertEqual(lines[0]["propensity"], 1)
        self.assertNotIn("placement", lines[0])

    def test_what_cannot_be_credited_is_counted_by_reason(self) -> None:
        joined = self.join(
            [slate("r1", "abc")],
            [
                event("u", "a", -61, "r1"),
                event("u", "a", 101, "r1"),
                event("u", "a", 1, "r9"),
                event("u", "x", 2, "r1"),
                event("u", "a", 3, "r1", position=2),
                event("u", "a", 4, "r1"),
                event("v", "b", 5, "r1"),
            ],
            window=100,
        )
        self.assertEqual(self.credited(joined), [("u", "watch", "r1", 0)])
        self.assertEqual(
            joined.refused, {"window": 2, "unknown_slate": 1, "not_on_slate": 1, "position": 1, "other_user": 1}
        )

    def test_the_window_has_its_ends(self) -> None:
        for after, is_credited in [(-61, False), (-60, True), (0, True), (100, True), (100.5, False)]:
            with self.subTest(after=after):
                joined = self.join([slate("r1", "a")], [event("u", "a", after, "r1")], window=100)
                self.assertEqual(len(joined.credited), int(is_credited))

    def test_an_event_without_a_slate_goes_to_the_impression_touched_last(self) -> None:
        joined = self.join(
            [slate("r1", "ab"), slate("r2", "ba", time=SHOWN + 50), slate("r3", "a", time=SHOWN + 60)],
            [
                event("u", "a", 5),  # Nothing touched yet.
                event("u", "a", 10, "r1"),
                event("u", "a", 20, action="like"),
                event("u", "a", 70, "r2"),
                event("u", "a", 80, action="like"),
                event("u", "b", 81, action="like"),  # Shown, never touched.
                event("v", "a", 82, action="like"),  # Touched by another.
                event("u", "a", 151, action="like"),  # Within the window of r2, not of r1.
                event("u", "a", 152, action="like"),
            ],
            window=101,
        )
        self.assertEqual(
            self.credited(joined),
            [
                ("u", "watch", "r1", 0),
                ("u", "like", "r1", 0),
                ("u", "watch", "r2", 1),
                ("u", "like", "r2", 1),
                ("u", "like", "r2", 1),
            ],
        )
        self.assertEqual(joined.refused, {})

    def test_pages_of_a_slate_belong_together_and_repeated_lines_count_once(self) -> None:
        pages = [slate("r1", "ab"), slate("r1", "cd", first=2), slate("r1", "ab")]
        events = [event("u", "d", 1, "r1", event_id="e"), event("u", "d", 1, "r1", event_id="e")]
        joined = self.join(pages, [*events, {"type": "user", "user_id": "u"}])
        self.assertEqual([(i.item_id, i.position) for i in joined.impressions], list(zip("abcd", range(4))))
        self.assertEqual(self.credited(joined), [("u", "watch", "r1", 3)])
        self.assertEqual({i.user_id for i in joined.impressions}, {"u"})

    def test_files_are_read_in_order_and_a_line_being_written_is_left_out(self) -> None:
        for number, name in [(2, "r2"), (10, "r10"), (1, "r1")]:
            path = self.folder / f"slates-{number:010}.ndjson"
            path.write_text(json.dumps(slate(name, "a")) + "\n" + json.dumps(slate("torn", "b"))[:-5])
        names = [i.recommendation_id for i in feedback.read_slates(self.folder)]
        self.assertEqual(names, ["r1", "r2", "r10"])
        (self.folder / "slates-0000000003.ndjson").write_text("{\n")
        with self.assertRaisesRegex(ValueError, "slates-0000000003.ndjson:1"):
            feedback.read_slates(self.folder)

    def test_the_log_has_each_users_events_in_order_and_leaves_out_strange_items(self) -> None:
        films = [f"film-{i:05}" for i in range(1, 5)]
        path = self.folder / "events.ndjson"
        path.write_text(
            "".join(
                json.dumps(line) + "\n"
                for line in [
                    event("v", films[0], 9),
                    event("u", films[1], 7, action="like"),
                    event("u", films[2], 5),
                    event("u", "no-such-film", 6),
                    event("u", films[3], 8, action="stare"),
                    event("w", "no-such-film", 1),
                ]
            )
        )
        log = feedback.interaction_log(feedback.read_events(path), DEMO)
        self.assertEqual(log.user_ids, ["u", "v"])
        self.assertEqual(log.offsets.tolist(), [0, 3, 4])
        self.assertEqual([log.item_ids[i] for i in log.items], [films[2], films[1], films[3], films[0]])
        self.assertEqual([log.action_names[a] for a in log.actions], ["watch", "like", "unknown", "watch"])
        self.assertEqual(log.liked.tolist(), [False, True, False, False])
        self.assertEqual((log.times - SHOWN).tolist(), [5, 7, 8, 9])

    def test_the_table_has_slates_of_known_users_before_what_they_did(self) -> None:
        films = [f"film-{i:05}" for i in range(1, 5)]
        lines = [slate("r1", ""), slate("r2", "", time=SHOWN + 20), slate("r3", "")]
        for line in lines:
            line["items"] = [
                {"item_id": film, "position": i, "score": 0.5, "propensity": 0.5}
                for i, film in enumerate([*films[:3], "gone"])
            ]
        joined = self.join(
            lines,
            [
                event("u", films[3], -50),
                event("u", films[1], 10, "r1"),
                event("u", films[2], 30, "r2", action="like"),
                event("u", films[2], 31, "r2"),
            ],
        )
        log = feedback.interaction_log(feedback.read_events(self.folder / "events.ndjson"), DEMO)
        table = feedback.impression_table(joined, log)
        self.assertEqual(table["slate.offsets"].tolist(), [0, 3, 6])
        self.assertEqual(table["slate.user"].tolist(), [0, 0])
        self.assertEqual(table["slate.event"].tolist(), [1, 2])
        self.assertEqual(table["slate.known"].tolist(), [1, 2])
        self.assertEqual([log.item_ids[i] for i in table["item"]], films[:3] * 2)
        self.assertEqual(table["label.clicked"].tolist(), [0, 1, 0, 0, 0, 1])
        self.assertEqual(table["label.like"].tolist(), [0, 0, 0, 0, 0, 1])
        self.assertEqual(table["label.watch"].tolist(), [0, 1, 0, 0, 0, 1])
        np.testing.assert_array_equal(table["weight"], np.full(6, 4.0))
        feedback.write(joined, log, self.folder / "out")
        written = (self.folder / "out/impressions.ndjson").read_text().splitlines()
        self.assertEqual(len(written), 12)


if __name__ == "__main__":
    unittest.main()
