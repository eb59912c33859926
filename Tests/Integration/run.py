"""Runs the integration tests: run.py [--only WORD…] [--full] [--slow-daemon] [--tally FILE].

RECSERVER_BINARY names the daemon, .build/release/recserver by default. The last line is `N passed, N failed`;
the exit code is 1 when a case failed.
"""

import argparse
import sys
import time
import unittest
from pathlib import Path

import harness


class Result(unittest.TextTestResult):
    """Counts passes, with the time of each case."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.passed = 0
        self.failed = 0
        self.started = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.started = time.monotonic()
        self.broken = False

    def addSubTest(self, test, subtest, error) -> None:
        super().addSubTest(test, subtest, error)
        self.broken = self.broken or error is not None

    def addError(self, test, error) -> None:
        super().addError(test, error)
        if not hasattr(test, "_testMethodName"):  # setUpClass or setUpModule: no startTest came before.
            self.failed += 1
        self.broken = True

    def addFailure(self, test, error) -> None:
        super().addFailure(test, error)
        self.broken = True

    def stopTest(self, test: unittest.TestCase) -> None:
        skipped = any(test is t for t, _ in self.skipped)
        if self.broken:
            self.failed += 1
        elif not skipped:
            self.passed += 1
        seconds = time.monotonic() - self.started
        if seconds > 5:
            self.stream.writeln(f"    ({seconds:.0f} s)")
        super().stopTest(test)


class EndOfTheSharedDaemon(unittest.TestCase):
    def test_the_daemon_that_took_all_of_it_ends_cleanly(self) -> None:
        harness.end_shared(self)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="words of which a case's id must contain one")
    parser.add_argument("--full", action="store_true", help="also what needs more tools or time")
    parser.add_argument(
        "--slow-daemon", action="store_true", help="the daemon is instrumented: more patience, fewer rounds"
    )
    parser.add_argument("--tally", type=Path, help="append `passed failed` to this file")
    options = parser.parse_args()
    harness.FULL, harness.SLOW = options.full, options.slow_daemon

    found = unittest.defaultTestLoader.discover(str(Path(__file__).parent), "test_*.py")
    cases = [
        c
        for module in found
        for group in module
        for c in (group if isinstance(group, unittest.TestSuite) else [group])
    ]
    if options.only:
        cases = [c for c in cases if any(word in c.id() for word in options.only)]
    # Cases of one class stay together: they share their daemons.
    suite = unittest.TestSuite(
        [*cases, EndOfTheSharedDaemon("test_the_daemon_that_took_all_of_it_ends_cleanly")]
    )
    result = unittest.TextTestRunner(resultclass=Result, verbosity=2, stream=sys.stdout).run(suite)
    for case, reason in result.skipped:
        print(f"SKIPPED {case.id()}: {reason}")
    if options.tally:
        with options.tally.open("a") as tally:
            tally.write(f"{result.passed} {result.failed}\n")
    print(f"{result.passed} passed, {result.failed} failed")
    return 0 if result.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
