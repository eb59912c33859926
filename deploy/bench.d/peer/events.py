"""Keeps events in SQLite under granian (RSGI): POST /events, GET /readyz. Durable before the answer, as ours.

Environment: PEER_STATE, the database; PEER_GROUP=1 makes one transaction of all requests that wait, else each has its own.
"""

import asyncio
import os
import sqlite3
import uuid

import orjson

database = sqlite3.connect(os.environ["PEER_STATE"], isolation_level=None, check_same_thread=False, cached_statements=64)
database.executescript("""
    PRAGMA journal_mode=WAL;
    PRAGMA synchronous=FULL;
    PRAGMA cache_size=-65536;
    CREATE TABLE IF NOT EXISTS events(user TEXT, event TEXT, item TEXT NOT NULL, action TEXT, time REAL, value REAL,
        recommendation TEXT, position INTEGER, PRIMARY KEY(user, event)) WITHOUT ROWID;
""")
INSERT = "INSERT OR IGNORE INTO events VALUES(?,?,?,?,?,?,?,?)"
JSON = [("content-type", "application/json")]
GROUPED = os.environ.get("PEER_GROUP") == "1"
waiting: list = []
writer = None


def rows(body: bytes):
    parsed = orjson.loads(body)
    events = parsed if isinstance(parsed, list) else [parsed]
    return [(e["user_id"], e.get("event_id") or uuid.uuid4().hex, e["item_id"], e.get("action"), e.get("timestamp"),
             e.get("value"), e.get("recommendation_id"), e.get("position")) for e in events]


def store(events):
    database.execute("BEGIN IMMEDIATE")
    database.executemany(INSERT, events)
    database.execute("COMMIT")


async def write():
    """Makes everything that waits durable at once, again and again while something does."""
    global writer
    loop = asyncio.get_running_loop()
    while waiting:
        taken = waiting[:]
        waiting.clear()
        await loop.run_in_executor(None, store, [row for events, _ in taken for row in events])
        for _, done in taken:
            done.set_result(None)
    writer = None


async def app(scope, protocol):
    global writer
    if scope.path != "/events":
        protocol.response_str(200 if scope.path in ("/readyz", "/livez") else 404, [], "")
        return
    try:
        events = rows(await protocol())
    except (KeyError, ValueError, TypeError) as error:
        protocol.response_str(400, [("content-type", "text/plain")], repr(error))
        return
    if GROUPED:
        done = asyncio.get_running_loop().create_future()
        waiting.append((events, done))
        if writer is None:
            writer = asyncio.ensure_future(write())
        await done
    else:
        store(events)
    results = [{"status": "stored", "event_id": event[1]} for event in events]
    protocol.response_bytes(200, JSON, orjson.dumps({"stored": len(events), "results": results}))
