"""The goldens over HTTP: what `explain` says of every candidate against the trainer's own numbers."""

import json
import math
from pathlib import Path

import harness

TOLERANCE = 1e-4


def is_close(ours: list[float], theirs: list[float]) -> bool:
    """|a - b| <= tol |b| + tol/10 rms(b), for a stage of one request."""
    rms = math.sqrt(sum(x * x for x in theirs) / max(1, len(theirs)))
    allowed = [TOLERANCE * abs(b) + TOLERANCE / 10 * rms for b in theirs]
    return len(ours) == len(theirs) and all(
        abs(a - b) <= most for a, b, most in zip(ours, theirs, allowed)
    )


class Goldens(harness.Case):
    def check_bundle(self, bundle: Path) -> None:
        tasks = [task["name"] for task in json.loads((bundle / "manifest.json").read_text())["ranker"]["tasks"]]
        server = harness.Daemon("--deadline-ms", "10000", bundle=bundle)
        compared = 0
        try:
            for line in (bundle / "golden.jsonl").read_text().splitlines():
                golden = json.loads(line)
                request = {**golden["request"], "explain": True, "fields": []}
                explained = {
                    item["item_id"]: item["explain"] for item in server.recommend(**request)["items"]
                }
                order = [explained[c["item_id"]] for c in golden["request"]["candidates"]]
                stages = golden["stages"]
                ours = {
                    "tower.score": [e.get("retrieval_score") for e in order],
                    "value": [e["value"] for e in order],
                    "ranker.probabilities": [e["probabilities"][task] for e in order for task in tasks],
                }
                if golden["request"].get("history"):
                    ours["sequence.score"] = [e.get("sequence_score") for e in order]
                    ours["sequence.dot"] = [e.get("sequence_dot") for e in order]
                for name, values in ours.items():
                    if name not in stages or None in values:
                        continue
                    theirs = stages[name]
                    if name == "ranker.probabilities":
                        theirs = [p for row in theirs for p in row]
                    self.assertTrue(is_close(values, theirs), f"{name} of {line[:200]}: {values} {theirs}")
                    compared += len(values)
        finally:
            server.stop(self)
        self.assertGreater(compared, 1000)
        print(f"  {bundle.name}: {compared} explained numbers agree with the trainer's")

    def test_explained_scores_of_the_demo_are_the_trainers(self) -> None:
        self.check_bundle(harness.DEMO)

    def test_explained_scores_of_movielens_are_the_trainers(self) -> None:
        bundle = harness.ROOT / ".bench/ml-100k-quick"
        if not (bundle / "manifest.json").exists():
            self.skipTest("NO MOVIELENS BUNDLE: test_movielens trains it where the data is")
        self.check_bundle(bundle)
