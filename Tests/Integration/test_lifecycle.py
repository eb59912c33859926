"""Starting, refusing, draining, stopping, and the limits that only a daemon in trouble shows."""

import json
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import contract
import harness
from harness import NOW

HEAVY = {
    "history": [{"item_id": f"film-{1 + i:05}", "timestamp": NOW - 9000 + i} for i in range(500)],
    "candidates": [{"item_id": f"film-{i:05}"} for i in range(1, 10_001)],
    "n": 10,
    "now": NOW,
    "deadline_ms": 10_000,
    "degrade": "never",
}


class Stopping(harness.Case):
    def test_a_free_port_is_printed(self) -> None:
        daemon = self.start()
        self.assertNotIn(daemon.port, (0, 8080))
        self.assertEqual(daemon.get("/livez").status, 200)

    def test_sigterm_lets_requests_in_flight_finish(self) -> None:
        for sent in [signal.SIGTERM, signal.SIGINT]:
            daemon = harness.Daemon(
                "--deadline-ms", "10000", "--compute-threads", "1", "--drain-limit-ms", "120000"
            )
            try:
                answers = []
                threads = [
                    threading.Thread(target=lambda: answers.append(daemon.post(HEAVY))) for _ in range(6)
                ]
                for thread in threads:
                    thread.start()
                limit = time.monotonic() + harness.patience()
                # All six have reached the queue or a compute thread before the signal.
                while (
                    b"recserver_connections_accepted_total" in (text := daemon.get("/metrics").body)
                    and time.monotonic() < limit
                ):
                    depth = next(
                        float(line.split()[1])
                        for line in text.decode().splitlines()
                        if line.startswith("recserver_queue_depth ")
                    )
                    if depth >= 5 or len(answers) >= 1:
                        break
                daemon.process.send_signal(sent)
                daemon.is_ending = True
                for thread in threads:
                    thread.join()
                self.assertEqual([a.status for a in answers], [200] * 6)
                self.assertTrue(all(len(a.json["items"]) == 10 for a in answers))
            finally:
                daemon.stop(self)
            self.assertRaises(OSError, socket.create_connection, (daemon.host, daemon.port), 1)

    def test_readyz_says_503_while_it_drains_and_requests_are_served(self) -> None:
        daemon = self.start("--drain-delay-ms", "60000")
        self.assertEqual(daemon.get("/readyz?verbose").status, 200)
        daemon.process.send_signal(signal.SIGTERM)
        limit = time.monotonic() + harness.patience()
        while (answer := daemon.get("/readyz?verbose")).status == 200 and time.monotonic() < limit:
            pass
        contract.check_problem(answer, "not-ready", 503)
        contract.check_answer("/readyz", "GET", answer)
        self.assertEqual(daemon.get("/livez").status, 200)
        self.assertEqual(daemon.post({"n": 3}).status, 200)
        self.assertIn("recserver_ready 0", daemon.get("/metrics").body.decode())
        # The second signal, from the case's end, cuts the delay of a minute short.

    def test_sighups_change_nothing(self) -> None:
        daemon = self.start()
        for _ in range(2000):
            daemon.process.send_signal(signal.SIGHUP)
        self.assertEqual(daemon.get("/readyz").status, 200)

    def test_idle_connections_do_not_hold_a_stop_up(self) -> None:
        daemon = self.start()
        peers = [socket.create_connection((daemon.host, daemon.port)) for _ in range(20)]
        self.assertEqual(daemon.get("/livez").status, 200)
        self.assertEqual(daemon.stop(), 0)
        for peer in peers:
            peer.close()

    def test_not_ready_before_the_bundle_is_verified(self) -> None:
        # Indexes that must be made first keep the daemon busy long enough to be asked.
        daemon = self.start("--index-cache", str(harness.SCRATCH / "indexes-of-none"), wait=False)
        answers = [daemon.get("/readyz"), daemon.post({})]
        self.assertEqual(daemon.get("/livez").status, 200)
        if daemon.get("/readyz").status == 200:
            self.skipTest("the daemon was ready at once")
        for answer in answers:
            contract.check_problem(answer, "not-ready", 503)
            self.assertEqual(answer.headers["retry-after"], "1")
        contract.check_answer("/version", "GET", daemon.get("/version"))
        contract.check_answer("/metrics", "GET", daemon.get("/metrics"))
        daemon.wait_until_ready()


class Overload(harness.Case):
    def test_a_full_queue_refuses_with_retry_after(self) -> None:
        daemon = self.start("--queue-depth", "1", "--compute-threads", "1", "--deadline-ms", "10000")
        with ThreadPoolExecutor(16) as pool:
            work = [pool.submit(daemon.post, HEAVY) for _ in range(48)]
            while not all(w.done() for w in work):
                # The loop answers for itself however busy the compute thread is.
                self.assertEqual(daemon.get("/livez").status, 200)
            answers = [w.result() for w in work]
        statuses = Counter(a.status for a in answers)
        self.assertLessEqual(set(statuses), {200, 503, 504})
        self.assertGreater(statuses[200], 0)
        self.assertGreater(statuses[503], 0)
        for answer in answers:
            if answer.status == 503:
                contract.check_problem(answer, "overloaded", 503)
                contract.check_answer("/recommend", "POST", answer)
                self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
        shed = next(
            line
            for line in daemon.get("/metrics").body.decode().splitlines()
            if line.startswith("recserver_requests_shed_total ")
        )
        self.assertEqual(float(shed.split()[1]), statuses[503])
        self.assertEqual(daemon.post({"n": 5}).status, 200)

    def test_one_connection_too_many_is_refused(self) -> None:
        daemon = self.start("--connections-max", "4")
        kept = [socket.create_connection((daemon.host, daemon.port), timeout=10) for _ in range(4)]
        for peer in kept:
            peer.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(harness.read_answer(peer).status, 200)
        contract.check_problem(daemon.raw(b""), "overloaded", 503)
        for peer in kept:
            peer.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(harness.read_answer(peer).status, 200)
            peer.close()
        limit = time.monotonic() + harness.patience()
        while (
            answer := daemon.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        ) is None or answer.status == 503:
            self.assertLess(time.monotonic(), limit)

    def test_slow_requests_get_a_408(self) -> None:
        daemon = self.start("--header-timeout-ms", "300", "--body-timeout-ms", "300")
        for begun in [
            b"GET /livez HTTP/1.1\r\nHost:",
            b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
        ]:
            with self.subTest(begun=begun[:20]):
                answer = daemon.raw(begun)
                contract.check_problem(answer, "request-timeout", 408)
                self.assertEqual(answer.headers["connection"], "close")

    def test_bodies_up_to_the_limit_are_read(self) -> None:
        daemon = self.start("--body-max", "2048")
        self.assertEqual(daemon.post(b"{}" + b" " * 2046).status, 200)
        contract.check_problem(daemon.post(b"{}" + b" " * 2047), "content-too-large", 413)

    def test_many_clients_get_their_own_answers(self) -> None:
        users = [
            f"demo-{genre}-{i}"
            for genre in ["horror", "scifi", "romance", "comedy", "drama"]
            for i in range(1, 9)
        ]

        def ask(user: str) -> tuple[str, str]:
            return user, json.dumps(self.daemon.recommend(user_id=user, n=10)["items"])

        alone = dict(map(ask, users))
        rounds = 2 if harness.SLOW else 10
        with ThreadPoolExecutor(16) as pool:
            for user, items in pool.map(ask, users * rounds):
                self.assertEqual(items, alone[user])

    def test_clients_that_leave_do_no_harm(self) -> None:
        request = json.dumps(HEAVY).encode()
        head = (
            b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % len(request)
        )
        for _ in range(30):
            with socket.create_connection((self.daemon.host, self.daemon.port)) as peer:
                peer.sendall(head + request)
                # Closing with a reset, the rudest way.
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.assertEqual(len(self.daemon.recommend(user_id="demo-scifi-1")["items"]), 20)


class Settings(harness.Case):
    def test_a_wrong_setting_is_named_and_ends_with_2(self) -> None:
        serve = ["serve", "--bundle", str(harness.DEMO)]
        for flags, name in [
            (["--port", "65536"], "--port"),
            (["--port", "-2"], "--port"),
            (["--port", "http"], "--port"),
            (["--port="], "--port"),
            (["--loops", "0"], "--loops"),
            (["--compute-threads", "257"], "--compute-threads"),
            (["--queue-depth", "0"], "--queue-depth"),
            (["--deadline-ms", "0"], "--deadline-ms"),
            (["--microbatch", "1.5"], "--microbatch"),
            (["--log-level", "loud"], "--log-level"),
            (["--verify-goldens", "maybe"], "--verify-goldens"),
            (["--body-max", "99999999999999999999"], "--body-max"),
            (["--no-such-setting", "1"], "--no-such-setting"),
            (["--deadline-ms"], "--deadline-ms"),
        ]:
            with self.subTest(flags=flags):
                done = harness.run(*serve, *flags)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(name, done.stderr)
        for variable, value in [
            ("RECSERVER_PORT", "x"),
            ("RECSERVER_QUEUE_DEPTH", "0"),
            ("RECSERVER_LOG_LEVEL", "LOUD"),
        ]:
            with self.subTest(variable=variable):
                done = harness.run(*serve, environment={variable: value})
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(variable, done.stderr)
        for text, name in [
            ("{", "bad.json"),
            ("[]", "bad.json"),
            ('{"port":"x"}', "port"),
            ('{"prot":1}', "prot"),
            ('{"port":1,"port":2}', "bad.json"),
            ('{"port":true}', "port"),
        ]:
            with self.subTest(text=text):
                path = harness.SCRATCH / "bad.json"
                path.write_text(text)
                done = harness.run(*serve, "--config", str(path))
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(name, done.stderr)
        done = harness.run("serve")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--bundle", done.stderr)
        done = harness.run(*serve, "--config", "/no/such/file")
        self.assertEqual(done.returncode, 2)

    def test_flags_win_over_the_environment_and_it_over_the_file(self) -> None:
        path = harness.SCRATCH / "settings.json"
        path.write_text(json.dumps({"body_max": 2048, "log_level": "debug", "deadline_ms": 9000}))
        daemon = self.start(
            "--config",
            str(path),
            "--body-max",
            "8192",
            environment={"RECSERVER_BODY_MAX": "4096", "RECSERVER_DEADLINE_MS": "8000"},
        )
        self.assertEqual(daemon.post(b"{}" + b" " * 8000).status, 200)
        self.assertEqual(daemon.post(b"{}" + b" " * 9000).status, 413)

    def test_a_port_in_use_or_an_address_that_is_none_is_an_error(self) -> None:
        for flags in [
            ["--port", str(self.daemon.port)],
            ["--port", "0", "--host", "no.such.host"],
            ["--port", "0", "--host", "8.8.8.8"],
        ]:
            with self.subTest(flags=flags):
                done = harness.run("serve", "--bundle", str(harness.DEMO), *flags)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertTrue(done.stderr.strip())

    def test_the_log_is_json_lines(self) -> None:
        daemon = harness.Daemon()
        daemon.post({})
        daemon.stop(self)
        lines = daemon.log_text().splitlines()
        self.assertGreater(len(lines), 2)
        for line in lines:
            entry = json.loads(line)
            self.assertRegex(entry["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertIn(entry["level"], {"debug", "info", "notice", "warning", "error"})


class CommandLine(harness.Case):
    def test_version_and_help(self) -> None:
        self.assertEqual(harness.run("--version").stdout.strip(), self.daemon.get("/version").json["version"])
        text = harness.run("serve", "--help")
        self.assertEqual(text.returncode, 0)
        for name in ["--bundle", "--queue-depth", "--drain-limit-ms"]:
            self.assertIn(name, text.stdout)

    def test_recommend_answers_one_request(self) -> None:
        index = ["--index-cache", str(harness.SCRATCH / "indexes")]
        done = harness.run(
            "recommend",
            "--bundle",
            str(harness.DEMO),
            *index,
            json.dumps(
                {"user_id": "demo-scifi-1", "n": 5, "now": NOW, "degrade": "never", "deadline_ms": 10_000}
            ),
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        answer = json.loads(done.stdout)
        contract.check({"$ref": "#/components/schemas/Recommendation"}, answer)
        self.assertEqual(answer["items"], self.daemon.recommend(user_id="demo-scifi-1", n=5)["items"])
        done = harness.run("recommend", "--bundle", str(harness.DEMO), *index, '{"n":0}')
        self.assertEqual(done.returncode, 1)
        self.assertIn("out-of-range", done.stderr)
