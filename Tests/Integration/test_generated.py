"""Requests generated from openapi.yaml, valid and not: every answer is documented. Only with --full."""

import os
import subprocess
import sys
import unittest
from pathlib import Path

import contract
import harness


# How generated values become a body of lines: text as it is, anything else as one line of JSON.
HOOKS = """
import json
import schemathesis

@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    return (value if isinstance(value, str) else json.dumps(value)).encode()
"""


class Generated(harness.Case):
    def test_generated_requests_get_documented_answers(self) -> None:
        if not harness.FULL:
            self.skipTest("only with --full")
        program = Path(sys.executable).with_name("schemathesis")
        if not program.exists():
            raise unittest.SkipTest("schemathesis is not installed")
        # ASCII: the contract counts bytes of ids, generated schemas can only count characters.
        settings = harness.SCRATCH / "schemathesis.toml"
        settings.write_text('[generation]\ncodec = "ascii"\nallow-x00 = false\n')
        (harness.SCRATCH / "ndjson_hooks.py").write_text(HOOKS)
        done = subprocess.run(
            [
                str(program),
                "--config-file",
                str(settings),
                "run",
                str(contract.PATH),
                "-u",
                f"http://{self.daemon.host}:{self.daemon.port}",
                "--phases",
                "examples,coverage,fuzzing",
                "-n",
                "60" if harness.SLOW else "200",
                "--seed",
                "1",
                "--checks",
                "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
                "response_schema_conformance,unsupported_method",
                "--suppress-health-check",
                "all",
            ],
            capture_output=True,
            text=True,
            cwd=harness.SCRATCH,
            env=os.environ | {"SCHEMATHESIS_HOOKS": "ndjson_hooks", "PYTHONPATH": str(harness.SCRATCH)},
        )
        print(done.stdout[-6000:])
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-2000:])
