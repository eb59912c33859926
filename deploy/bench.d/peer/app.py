"""Serves the recommender under granian (RSGI): POST /recommend, GET /readyz.

Environment: PEER_BUNDLE, PEER_INDEX, PEER_CACHE_BYTES, PEER_CHUNK.
"""

import gc
import os

import orjson

from recommender import Recommender

recommender = Recommender(
    os.environ["PEER_BUNDLE"], os.environ["PEER_INDEX"], int(os.environ.get("PEER_CACHE_BYTES", "0")),
    int(os.environ.get("PEER_CHUNK", "500")))
# What is loaded stays: the collector need not walk it again.
gc.collect()
gc.freeze()
HEADERS = [("content-type", "application/json")]


async def app(scope, protocol):
    if scope.path == "/recommend":
        try:
            answer = recommender.recommend(orjson.loads(await protocol()))
        except (KeyError, ValueError, TypeError) as error:
            protocol.response_str(400, [("content-type", "text/plain")], repr(error))
            return
        protocol.response_bytes(200, HEADERS, orjson.dumps(answer))
    else:
        protocol.response_str(200 if scope.path == "/readyz" else 404, [], "")
