"""The replay against a small server in this process."""

import contextlib
import io
import json
import sys
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import evaluate_http  # noqa: E402


class Answers(BaseHTTPRequestHandler):
    """Recommends the item after the last one of the history, then others."""

    protocol_version = "HTTP/1.1"
    bodies: list[dict] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Answers.bodies.append(body)
        following = int(body["history"][-1]["item_id"]) + 1
        items = [{"item_id": str(following + i), "score": 1.0 - i / 10} for i in range(10)]
        data = json.dumps({"items": items, "degraded": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class EvaluateHTTP(unittest.TestCase):
    def test_replay(self) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lines = [
            {
                "user_id": str(u),
                "history": [{"item_id": str(u)}],
                "target": str(u + 1 + u % 2),
                "now": 5,
                "two_tower": ["x"] * 10,
                "popular": ["y"] * 10,
                "pipeline": [str(u + 1 + i) for i in range(10)],
            }
            for u in range(40)
        ]
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "eval.jsonl"
                path.write_text("\n".join(map(json.dumps, lines)))
                url, out = f"http://127.0.0.1:{server.server_address[1]}", io.StringIO()
                with (
                    mock.patch.object(sys, "argv", ["evaluate_http.py", url, str(path)]),
                    contextlib.redirect_stdout(out),
                ):
                    self.assertEqual(evaluate_http.main(), 0)
        finally:
            server.shutdown()
            server.server_close()
        text = out.getvalue()
        self.assertIn("40 of 40 users answered, 0 complaints", text)
        self.assertRegex(text, r"server +1\.0000 +0\.8155")
        self.assertRegex(text, r"two-tower +0\.0000 +0\.0000 +\+0\.\d+ … \+0\.\d+")
        self.assertIn("overlap@10 with the trainer's own pipeline: 1.0000", text)
        self.assertTrue(
            all("two_tower" not in body and body["degrade"] == "never" for body in Answers.bodies)
        )


if __name__ == "__main__":
    unittest.main()
