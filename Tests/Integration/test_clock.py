"""A wall clock that jumps while the daemon runs: no timeout is early or late, and events keep their order."""

import os
import time
from pathlib import Path

import harness
from harness import SCRATCH
from test_events import later

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
YEAR = 365 * 86_400


class Clock(harness.Case):
    def setUp(self) -> None:
        if LIBRARY is None:
            raise AssertionError("faketime is missing: deploy/setup test")
        if harness.SLOW:
            self.skipTest("nothing can be loaded before the sanitizers")
        self.offset = SCRATCH / "clock-offset"
        self.jump(0)
        self.folder = SCRATCH / "clock-state"
        environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self.offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Its remedy for another C library ends waits by the monotonic clock at once.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }
        # The library moves the environment of the process that it begins with, behind which Swift finds the arguments.
        flags = ("--state-dir", str(self.folder), "--retention-days", "30", "--compute-threads", "2")
        self.clocked = self.start(*flags, environment=environment, under=("env",))

    def jump(self, seconds: float) -> None:
        """Sets the daemon's wall clock off from the real one."""
        new = self.offset.with_suffix(".new")
        new.write_text(f"{seconds:+}\n")
        os.replace(new, self.offset)

    def post(self, number: int) -> str:
        answer = self.clocked.events({"user_id": "u", "item_id": f"film-{number:05}", "event_id": f"e-{number}"})
        self.assertEqual(answer["stored"], 1)
        return answer["token"]

    def test_jumps_of_a_year_and_of_a_second(self) -> None:
        daemon = self.clocked
        number = 0
        slate = daemon.post({"user_id": "u", "n": 5, "cursor": True, "deadline_ms": 10_000}).json
        for seconds in (0, YEAR, YEAR - 1, -1, -YEAR, 0, -1):
            self.jump(seconds)
            with self.subTest(offset=seconds):
                token = self.post(number + 1)
                self.post(number + 2)
                number += 2
                held = [(e["event_id"], e["timestamp"]) for e in daemon.user("u")["events"]]
                self.assertEqual([id for id, _ in held], [f"e-{n + 1}" for n in range(number)])
                self.assertEqual([t for _, t in held], sorted(t for _, t in held))
                answer = daemon.post({"user_id": "u", "min_sequence": token, "deadline_ms": 10_000})
                self.assertEqual((answer.status, answer.json["degraded"]), (200, []))
                # Waiting ends by the clock that never jumps.
                begun = time.monotonic()
                answer = daemon.post({"user_id": "u", "min_sequence": later(token, 1000), "deadline_ms": 300})
                self.assertEqual(answer.status, 412, answer.body)
                self.assertTrue(0.1 < time.monotonic() - begun < 5)
        self.assertIn("request_id", slate)
        self.assertEqual(daemon.get("/readyz").status, 200)
        daemon.stop(self)
        # What came by a wrong clock is neither dropped nor shut out afterwards.
        self.jump(0)
        again = self.start("--state-dir", str(self.folder), "--retention-days", "30")
        self.assertEqual(again.user("u")["total"], number)
