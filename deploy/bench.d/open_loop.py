"""Requests at a steady rate, whether or not answers keep up: a late answer delays no other request."""

import gc
import selectors
import time

from closed_loop import DEGRADED, Connection, encode

# Beyond this many in flight a request is sent late; its time counts from when it was due.
CONNECTIONS = 64


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def open_loop(port: int, bodies: list[bytes], rate: float, seconds: float) -> dict:
    """Seconds from when each request was due to its answer's last byte, and how many failed or were degraded."""
    requests = [encode(body) for body in bodies]
    idle = [Connection(port) for _ in range(4)]
    selector, busy = selectors.DefaultSelector(), 0
    latencies: list[float] = []
    failed = degraded = sent = 0
    total = int(rate * seconds)
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    while len(latencies) < total:
        now = time.perf_counter()
        while sent < total and start + sent / rate <= now and (idle or busy < CONNECTIONS):
            connection = idle.pop() if idle else Connection(port)
            connection.due = start + sent / rate
            connection.send(requests[sent % len(requests)])
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            sent, busy = sent + 1, busy + 1
        wait = start + sent / rate - time.perf_counter() if sent < total and busy < CONNECTIONS else 30
        for key, _ in selector.select(max(0, wait)):
            connection = key.data
            answer = connection.receive()
            if answer is None:
                continue
            latencies.append(time.perf_counter() - connection.due)
            failed += answer[0] != 200
            degraded += bool(DEGRADED.search(answer[1]))
            selector.unregister(connection.socket)
            busy -= 1
            if connection.left > 0:
                idle.append(connection)
            else:
                connection.socket.close()
    gc.enable()
    for connection in idle:
        connection.socket.close()
    return {"latencies": latencies, "failed": failed, "degraded": degraded, "p50_ms": 1e3 * percentile(latencies, 0.5),
            "p99_ms": 1e3 * percentile(latencies, 0.99)}
