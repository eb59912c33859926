"""Runs the integration tests: run.py [--only WORD…] [--full] [--slow-daemon] [--jobs N] [--tally FILE].

RECSERVER_BINARY names the daemon, .build/release/recserver by default. The last line is `N passed, N failed`;
the exit code is 1 when a case failed.
"""

import argparse
import io
import multiprocessing
import queue
import sys
import time
import unittest
from dataclasses import dataclass, field
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


@dataclass
class Report:
    """What a run of some cases came to."""

    text: str = ""
    passed: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)


def run(cases: list[unittest.TestCase], stream: io.TextIOBase) -> Report:
    result = unittest.TextTestRunner(resultclass=Result, verbosity=2, stream=stream).run(
        unittest.TestSuite(cases)
    )
    skipped = [f"SKIPPED {case.id()}: {reason}" for case, reason in result.skipped]
    return Report(passed=result.passed, failed=result.failed, skipped=skipped)


def found(options: argparse.Namespace) -> dict[str, list[unittest.TestCase]]:
    """The cases asked for, by module. Those of one class stay together: they share their daemons."""
    folder = Path(__file__).parent
    modules: dict[str, list[unittest.TestCase]] = {}
    for suite in unittest.defaultTestLoader.discover(str(folder), "test_*.py"):
        for group in suite:
            for case in group if isinstance(group, unittest.TestSuite) else [group]:
                if not options.only or any(word in case.id() for word in options.only):
                    modules.setdefault(case.id().split(".")[0], []).append(case)
    return modules


def prepare(options: argparse.Namespace) -> None:
    harness.FULL, harness.SLOW = options.full, options.slow_daemon


def last_case() -> list[unittest.TestCase]:
    return [EndOfTheSharedDaemon("test_the_daemon_that_took_all_of_it_ends_cleanly")]


def work(options: argparse.Namespace, names: multiprocessing.SimpleQueue, reports: multiprocessing.Queue) -> None:
    """One of several processes: takes modules until there are none, then ends its shared daemon."""
    prepare(options)
    modules = found(options)
    while name := names.get():
        stream = io.StringIO()
        report = run(modules[name], stream)
        report.text = stream.getvalue()
        reports.put(report)
    stream = io.StringIO()
    report = run(last_case(), stream)
    report.text = stream.getvalue()
    reports.put(report)
    harness.scratch.cleanup()
    reports.put(None)


def side_by_side(options: argparse.Namespace) -> list[Report]:
    """Runs modules in `jobs` processes, each with its own folder and shared daemon."""
    processes = multiprocessing.get_context("spawn")
    names, reports = processes.SimpleQueue(), processes.Queue()
    folder = Path(__file__).parent
    # The long ones first; the trained bundle is there before the scores that are compared with it.
    order = sorted(found(options), key=lambda name: -(folder / f"{name}.py").stat().st_size)
    order.sort(key=lambda name: (name == "test_goldens") - (name == "test_movielens"))
    for name in [*order, *[None] * options.jobs]:
        names.put(name)
    arguments = (options, names, reports)
    workers = [processes.Process(target=work, args=arguments) for _ in range(options.jobs)]
    for worker in workers:
        worker.start()
    all_reports, ended = [], 0
    while ended < len(workers):
        try:
            report = reports.get(timeout=5)
        except queue.Empty:
            dead = [w for w in workers if w.exitcode not in (None, 0)]
            if not dead:
                continue
            print(f"a process of the tests died, exit {dead[0].exitcode}")
            all_reports.append(Report(failed=1))
            for worker in workers:
                worker.terminate()
            break
        if report is None:
            ended += 1
        else:
            print(report.text, flush=True)
            all_reports.append(report)
    for worker in workers:
        worker.join()
    return all_reports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="words of which a case's id must contain one")
    parser.add_argument("--full", action="store_true", help="also what needs more tools or time")
    parser.add_argument(
        "--slow-daemon", action="store_true", help="the daemon is instrumented: more patience, fewer rounds"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes that run modules side by side")
    parser.add_argument("--tally", type=Path, help="append `passed failed` to this file")
    options = parser.parse_args()
    prepare(options)
    if options.jobs > 1:
        reports = side_by_side(options)
    else:
        cases = [case for group in found(options).values() for case in group]
        reports = [run(cases + last_case(), sys.stdout)]
    passed, failed = sum(r.passed for r in reports), sum(r.failed for r in reports)
    for report in reports:
        for line in report.skipped:
            if "no case used it" not in line:
                print(line)
    if options.tally:
        with options.tally.open("a") as tally:
            tally.write(f"{passed} {failed}\n")
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
