"""More requests than one compute thread can answer: each has its end, health answers, and it is over when they are."""

import json
import random
import socket
import struct
import threading
import time
from collections import Counter

import contract
import harness

HEAVY = {
    "candidates": [{"item_id": f"film-{i:05}"} for i in range(1, 3001)],
    "user_id": "demo-scifi-1",
    "n": 10,
    "now": harness.NOW,
}


def metric(daemon: harness.Daemon, name: str) -> float:
    """The sum of a metric's series."""
    lines = daemon.get("/metrics").body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


class Overload(harness.Case):
    def overload(self, daemon: harness.Daemon, seconds: float, clients: int, **request) -> list[harness.Answer]:
        """Clients who ask again as soon as they are answered, also when they are refused."""
        answers: list[harness.Answer] = []
        end = time.monotonic() + seconds

        def ask() -> None:
            while time.monotonic() < end:
                answers.append(daemon.post(HEAVY | request))

        threads = [threading.Thread(target=ask) for _ in range(clients)]
        for thread in threads:
            thread.start()
        while time.monotonic() < end:
            self.assertEqual(daemon.get("/livez").status, 200)
        for thread in threads:
            thread.join()
        return answers

    def test_every_request_has_its_end_and_it_is_over_when_they_are(self) -> None:
        daemon = self.start("--compute-threads", "1", "--queue-depth", "8", "--deadline-ms", "50")
        answers = self.overload(daemon, 2, 24, degrade="never")
        statuses = Counter(answer.status for answer in answers)
        self.assertLessEqual(set(statuses), {200, 503, 504})
        self.assertGreater(statuses[503], 0, statuses)
        for answer in answers:
            if answer.status == 503:
                contract.check_problem(answer, "overloaded", 503)
                self.assertIn(int(answer.headers["retry-after"]), range(1, 31))
        self.assertEqual(metric(daemon, "recserver_requests_shed_total"), statuses[503])
        self.assertEqual(metric(daemon, "recserver_admission_refused_total"), statuses[503])
        # Nothing is left of it.
        self.assertEqual(metric(daemon, "recserver_queue_depth"), 0)
        self.assertEqual(metric(daemon, "recserver_queue_wait_seconds"), 0)
        self.assertEqual(daemon.post({"n": 5, "degrade": "never", "deadline_ms": 10_000}).status, 200)

    def test_lesser_answers_come_before_refusals(self) -> None:
        daemon = self.start("--compute-threads", "1", "--deadline-ms", "100")
        answers = self.overload(daemon, 2, 24)
        statuses = Counter(answer.status for answer in answers)
        self.assertLessEqual(set(statuses), {200, 503})
        self.assertGreater(sum(bool(a.json["degraded"]) for a in answers if a.status == 200), 0)
        self.assertGreater(metric(daemon, "recserver_degraded_total"), 0)

    def test_clients_who_leave_are_not_computed_for(self) -> None:
        daemon = self.start("--compute-threads", "1", "--deadline-ms", "10000")
        body = json.dumps(HEAVY | {"degrade": "never"}).encode()
        head = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        peers = [socket.create_connection((daemon.host, daemon.port)) for _ in range(24)]
        for peer in peers:
            # Closing resets the connection.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sendall(head % len(body) + body)
        limit = time.monotonic() + harness.patience()
        while metric(daemon, "recserver_queue_depth") < 12 and time.monotonic() < limit:
            pass
        for peer in peers:
            peer.close()
        self.assertEqual(daemon.post({"n": 1}).status, 200)
        self.assertGreater(metric(daemon, "recserver_requests_abandoned_total"), 5)
        self.assertEqual(metric(daemon, "recserver_queue_depth"), 0)

    def test_a_batch_makes_room_for_single_requests(self) -> None:
        daemon = self.start("--compute-threads", "1", "--deadline-ms", "10000")
        users = random.Random(1).choices(range(1, 13), k=256)
        body = b"".join(b'{"user_id":"demo-drama-%d","n":5}\n' % user for user in users)
        ended: list[float] = []
        answers: list[harness.Answer] = []

        def ask() -> None:
            answers.append(
                daemon.request("POST", "/recommend", body, {"Content-Type": "application/x-ndjson"}))
            ended.append(time.monotonic())

        batch = threading.Thread(target=ask)
        batch.start()
        singles = []
        while batch.is_alive():
            self.assertEqual(daemon.post({"n": 3}).status, 200)
            singles.append(time.monotonic())
        batch.join()
        self.assertEqual(answers[0].status, 200)
        self.assertEqual(answers[0].body.count(b"\n"), 256)
        # In one piece it would have let none through.
        self.assertGreater(sum(at < ended[0] for at in singles), 3)
