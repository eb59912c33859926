"""TLS: versions, protocols, certificates and their reload, clients that show one, and clients that misbehave."""

import hashlib
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

import harness
from harness import SCRATCH, Answer, Case, Daemon
from test_keys import entry, write_keys

FOLDER = SCRATCH / "tls"


def openssl(*arguments: str, stdin: bytes = b"", check: bool = True) -> str:
    done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, timeout=30)
    text = (done.stdout + done.stderr).decode(errors="replace")
    if check and done.returncode != 0:
        raise AssertionError(f"openssl {arguments}: {text}")
    return text


def make_authority(name: str) -> None:
    openssl(
        *("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 300 -subj /CN=" + name).split(),
        *("-keyout", str(FOLDER / f"{name}.key"), "-out", str(FOLDER / f"{name}.pem")),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )


def make_certificate(
    name: str, authority: str = "ca", kind: str = "ec", days: int = 90, subject: str = "", names: str = ""
) -> Path:
    """NAME.pem and NAME.key, signed by an authority; on a second call with a new key and number."""
    key, certificate, extensions = (FOLDER / f"{name}.{end}" for end in ("key", "pem", "ext"))
    options = "ec -pkeyopt ec_paramgen_curve:P-256" if kind == "ec" else "rsa:2048"
    request = openssl(
        *f"req -newkey {options} -nodes -subj /CN={subject or name} -keyout {key}".split()
    )
    extensions.write_text(
        f"subjectAltName={names or 'DNS:localhost,IP:127.0.0.1'}\n"
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        "extendedKeyUsage=serverAuth,clientAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        "crlDistributionPoints=URI:http://localhost/crl\n"
    )
    signing = f"x509 -req -CA {FOLDER / authority}.pem -CAkey {FOLDER / authority}.key -days {days}"
    signed = openssl(*signing.split(), "-extfile", str(extensions), stdin=request.encode())
    certificate.write_text(re.search(r"-----BEGIN[^-]*-----[^-]*-----END[^-]*-----\n", signed)[0])
    return certificate


def setUpModule() -> None:
    FOLDER.mkdir(exist_ok=True)
    make_authority("ca")
    make_authority("other")
    make_certificate("server")
    make_certificate("shop", subject="shop", names="URI:spiffe://test/shop")
    make_certificate("stranger", authority="other")


def flags(*more: str, certificate: str = "server") -> list[str]:
    return [
        *("--tls-port", "0", "--tls-certificate-file", str(FOLDER / f"{certificate}.pem")),
        *("--tls-key-file", str(FOLDER / f"{certificate}.key"), *more),
    ]


def tls_port(daemon: Daemon) -> int:
    """The port of the second line that a daemon with a TLS port prints."""
    if not hasattr(daemon, "tls_port"):
        line = daemon.process.stdout.readline().decode()
        daemon.tls_port = int(re.search(r"listening on https://[\d.]+:(\d+)", line)[1])
    return daemon.tls_port


def client(
    identity: str | None = None, protocols: list[str] | None = None, **options: object
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(FOLDER / "ca.pem"))
    for name, value in options.items():
        setattr(context, name, value)
    if identity:
        context.load_cert_chain(FOLDER / f"{identity}.pem", FOLDER / f"{identity}.key")
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


def connect(daemon: Daemon, context: ssl.SSLContext) -> ssl.SSLSocket:
    peer = socket.create_connection(("127.0.0.1", tls_port(daemon)), timeout=10)
    try:
        return context.wrap_socket(peer, server_hostname="localhost")
    except BaseException:
        peer.close()
        raise


def ask(peer: ssl.SSLSocket, path: str = "/livez", body: bytes | None = None, **headers: str) -> Answer:
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    peer.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
    answer = harness.read_answer(peer)
    if answer is None:
        raise AssertionError("no answer")
    return answer


class TLSCase(Case):
    """Cases that share one daemon with a TLS port."""

    held: Daemon | None = None

    @classmethod
    def tearDownClass(cls) -> None:
        if cls.held is not None:
            cls.held.stop()

    @property
    def daemon(self) -> Daemon:
        if TLSCase.held is None or TLSCase.held.process.poll() is not None:
            TLSCase.held = Daemon(*flags())
        return TLSCase.held

    def test_curl_is_answered_in_both_versions_of_both_protocols(self) -> None:
        for version in ("--tls-max 1.2", "--tlsv1.3"):
            for protocol, told in (("--http1.1", "1.1"), ("--http2", "2")):
                done = subprocess.run(
                    [
                        *f"curl -sS --fail {version} {protocol}".split(),
                        *("--cacert", str(FOLDER / "ca.pem"), "-w", "%{http_version} %{ssl_verify_result}"),
                        f"https://localhost:{tls_port(self.daemon)}/livez",
                    ],
                    capture_output=True,
                    text=True,
                    timeout=30,
                )
                self.assertEqual(done.stdout, f"ok\n{told} 0", done.stderr)

    def test_old_versions_and_weak_ciphers_are_refused(self) -> None:
        for option in ("-tls1", "-tls1_1"):
            text = openssl(
                *f"s_client -connect 127.0.0.1:{tls_port(self.daemon)} {option}".split(),
                *("-cipher", "ALL:@SECLEVEL=0"),
                check=False,
            )
            self.assertIn("alert protocol version", text)
        for cipher in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"):
            text = openssl(
                *f"s_client -connect 127.0.0.1:{tls_port(self.daemon)} -tls1_2 -cipher {cipher}".split(),
                check=False,
            )
            self.assertIn("alert handshake failure", text)

    def test_renegotiation_is_refused(self) -> None:
        done = subprocess.Popen(
            f"openssl s_client -connect 127.0.0.1:{tls_port(self.daemon)} -tls1_2".split(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        # A line that is R alone asks for it, once the handshake is done.
        for line in done.stdout:
            if b"Extended master secret" in line:
                break
        done.stdin.write(b"R\n")
        done.stdin.flush()
        text = done.communicate(timeout=10)[0].decode()
        self.assertIn("no renegotiation", text)

    def test_protocols_are_agreed_on_or_refused_with_the_alert(self) -> None:
        for offered, agreed in (
            (["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["x", "http/1.1"], "http/1.1"), ([], None)
        ):
            with connect(self.daemon, client(protocols=offered)) as peer:
                self.assertEqual(peer.selected_alpn_protocol(), agreed)
                if agreed != "h2":
                    self.assertEqual(ask(peer).status, 200)
        with self.assertRaises(ssl.SSLError) as refusal:
            connect(self.daemon, client(protocols=["spdy/3"]))
        self.assertIn("no application protocol", str(refusal.exception).lower().replace("_", " "))

    def test_sessions_go_on_by_ticket(self) -> None:
        context = client(maximum_version=ssl.TLSVersion.TLSv1_2)
        with connect(self.daemon, context) as first:
            self.assertFalse(first.session_reused)
            session = first.session
        peer = socket.create_connection(("127.0.0.1", tls_port(self.daemon)), timeout=10)
        with context.wrap_socket(peer, server_hostname="localhost", session=session) as second:
            self.assertTrue(second.session_reused)
            self.assertEqual(ask(second).status, 200)
        self.assertIn("Reused, TLSv1.3", self.resumed_13())

    def resumed_13(self) -> str:
        ticket = FOLDER / "ticket"
        base = f"s_client -connect 127.0.0.1:{tls_port(self.daemon)} -tls1_3 -ign_eof"
        request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        openssl(*base.split(), "-sess_out", str(ticket), stdin=request)
        text = openssl(*base.split(), "-sess_in", str(ticket), stdin=request)
        # Nothing is taken before the handshake is done.
        self.assertIn("Early data was not sent", text)
        return text

    def test_plain_http_on_the_port_is_told_so(self) -> None:
        with socket.create_connection(("127.0.0.1", tls_port(self.daemon)), timeout=10) as peer:
            peer.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = harness.read_answer(peer)
            self.assertEqual((answer.status, answer.kind), (400, "bad-request"))
            self.assertIn("TLS", answer.json["detail"])
            self.assertEqual(peer.recv(100), b"")

    def test_every_byte_may_come_alone(self) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("127.0.0.1", tls_port(self.daemon)), timeout=10) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def until_done(step):
                while True:
                    try:
                        result = step()
                    except ssl.SSLWantReadError:
                        result = None
                    for byte in outgoing.read():
                        peer.sendall(bytes([byte]))
                    if result is not None:
                        return result
                    incoming.write(peer.recv(65536))

            until_done(lambda: tls.do_handshake() or True)
            tls.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertIn(b"200 OK", until_done(lambda: tls.read(65536)))

    def test_what_happens_is_counted(self) -> None:
        with connect(self.daemon, client()) as peer:
            text = ask(peer, "/metrics").body.decode()
        for line in (
            'recserver_tls_handshakes_total{version="1.3"} ',
            'recserver_tls_failures_total{reason="alpn"} ', 'recserver_tls_reloads_total{result="loaded"} 0',
        ):
            self.assertIn(line, text)
        days = float(re.search(r"^recserver_tls_certificate_days (\S+)$", text, re.M)[1])
        self.assertTrue(10 < days <= 90, days)

    def test_many_answers_of_many_sizes_arrive_whole(self) -> None:
        with connect(self.daemon, client()) as peer:
            plain = self.daemon.get("/openapi.yaml").body
            for _ in range(20):
                self.assertEqual(ask(peer, "/openapi.yaml").body, plain)
                self.assertEqual(ask(peer).body, b"ok\n")


class TLSDaemons(Case):
    """Cases with a daemon of their own."""

    def secured(self, *more: str, certificate: str = "server") -> Daemon:
        daemon = self.start(*flags(*more, certificate=certificate))
        tls_port(daemon)
        return daemon

    def test_a_handshake_has_its_time(self) -> None:
        daemon = self.secured("--tls-handshake-timeout-ms", "200")
        for begun in (b"", b"\x16\x03\x01\x02\x00\x01"):
            with socket.create_connection(("127.0.0.1", tls_port(daemon)), timeout=10) as peer:
                peer.sendall(begun)
                self.assertEqual(peer.recv(100), b"")
        self.assertIn('recserver_tls_failures_total{reason="timeout"} 2', daemon.get("/metrics").body.decode())

    def test_tls_alone_is_served_where_plain_is_off(self) -> None:
        process = subprocess.Popen(
            [harness.BINARY, "serve", "--bundle", str(harness.DEMO), "--port", "-1", *flags()],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=harness.clean_environment(),
        )
        line = process.stdout.readline().decode()
        self.assertRegex(line, r"^recserver listening on https://127\.0\.0\.1:\d+$")
        process.send_signal(signal.SIGTERM)
        process.wait(harness.patience())
        process.stdout.close()

    def test_a_bad_file_ends_the_start_and_is_named(self) -> None:
        good = {"--tls-certificate-file": FOLDER / "server.pem", "--tls-key-file": FOLDER / "server.key"}
        for change, expected in (
            ({"--tls-certificate-file": FOLDER / "none.pem"}, "none.pem: No such file"),
            ({"--tls-key-file": FOLDER / "shop.key"}, "shop.key: the key is not that of"),
            ({"--tls-key-file": FOLDER / "server.pem"}, "server.pem: no usable private key"),
            ({"--tls-key-file": f"{FOLDER}/server.key:{FOLDER}/shop.key"}, "tls_key_file: expected as many"),
            ({"--tls-certificate-file": ""}, "tls_certificate_file: a TLS port needs"),
            ({"--tls-client-auth": "required"}, "tls_client_ca_file"),
        ):
            settings = [str(part) for item in (good | change).items() for part in item]
            done = harness.run("serve", "--bundle", str(harness.DEMO), "--port", "0", "--tls-port", "0", *settings)
            self.assertEqual(done.returncode, 1, change)
            self.assertIn(expected, done.stderr)

    def mutual(self, kind: str, *more: str) -> Daemon:
        return self.secured(
            *("--tls-client-auth", kind, "--tls-client-ca-file", str(FOLDER / "ca.pem"), *more)
        )

    def test_clients_must_show_a_valid_certificate_where_one_is_required(self) -> None:
        make_certificate("expired", days=0)
        time.sleep(1)
        for kind in ("optional", "required"):
            daemon = self.mutual(kind)
            for identity in (None, "shop", "stranger", "expired"):
                for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                    served = identity == "shop" or identity is None and kind == "optional"
                    with self.subTest(kind=kind, identity=identity, version=version):
                        try:
                            with connect(daemon, client(identity, maximum_version=version)) as peer:
                                # In 1.3 a client learns that it was refused when it reads.
                                self.assertEqual(ask(peer).status, 200)
                            self.assertTrue(served)
                        except (ssl.SSLError, ConnectionResetError, AssertionError):
                            self.assertFalse(served)

    def test_certificates_have_roles_and_rates_as_keys_do(self) -> None:
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert((FOLDER / "server.pem").read_text())).hexdigest()
        path = SCRATCH / "certificates.keys.json"
        keys = json.loads(write_keys(path, entry("key", "read")).read_text())
        keys["certificates"] = [
            {"name": "by-uri", "alternative_name": "URI:spiffe://test/shop", "roles": ["read"]},
            {"name": "by-name", "common_name": "slow", "roles": ["read"], "rate": 0.01, "burst": 2},
            {"name": "by-digest", "sha256": digest, "roles": ["events"]},
        ]
        path.write_text(json.dumps(keys))
        make_certificate("slow")
        make_certificate("nobody")
        daemon = self.mutual("optional", "--keys-file", str(path))

        def status(identity: str | None, **headers: str) -> int:
            with connect(daemon, client(identity)) as peer:
                return ask(peer, "/recommend", b"{}", Content_Type="application/json", **headers).status

        self.assertEqual(status("shop"), 200)
        self.assertEqual([status("slow") for _ in range(3)], [200, 200, 429])
        self.assertEqual(status("server"), 403)
        self.assertEqual(status("nobody"), 401)
        self.assertEqual(status(None), 401)
        # A key that is brought counts instead of the certificate.
        self.assertEqual(status("server", X_Api_Key="key-of-key"), 200)
        self.assertEqual(status("shop", X_Api_Key="wrong"), 401)
        # The same by HTTP/2.
        done = subprocess.run(
            [
                *"curl -sS --http2 -o /dev/null -w %{http_version}:%{http_code} --json {}".split(),
                *("--cacert", FOLDER / "ca.pem", "--cert", FOLDER / "shop.pem", "--key", FOLDER / "shop.key"),
                f"https://localhost:{tls_port(daemon)}/recommend",
            ],
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.stdout, "2:200", done.stderr)
        self.assertIn(
            'recserver_key_requests_total{key="by-uri",outcome="allowed"} 2', daemon.get("/metrics").body.decode()
        )

    def test_certificates_change_under_load_without_a_failure(self) -> None:
        make_certificate("moving")
        daemon = self.secured(certificate="moving")
        stop, failures, seen, count = threading.Event(), [], set(), [0]

        def ask_on(new_connections: bool) -> None:
            peer = None
            try:
                while not stop.is_set():
                    if peer is None or new_connections:
                        if peer is not None:
                            peer.close()
                        peer = connect(daemon, client())
                        seen.add(peer.getpeercert()["serialNumber"])
                    if ask(peer).status != 200:
                        failures.append("status")
                    count[0] += 1
            except BaseException as error:
                failures.append(repr(error))
            finally:
                if peer is not None:
                    peer.close()

        threads = [threading.Thread(target=ask_on, args=(new,)) for new in (True, True, False, False)]
        for thread in threads:
            thread.start()
        for round in range(1, 4):
            make_certificate("moving")
            self.reload(daemon, "loaded", round)
            before = count[0]
            while count[0] < before + 40 and not failures:
                time.sleep(0.01)
        # A file that is wrong changes nothing.
        (FOLDER / "moving.key").write_text("")
        self.reload(daemon, "refused", 1)
        before = count[0]
        while count[0] < before + 40 and not failures:
            time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(len(seen), 4)
        self.assertIn("the certificates were refused", daemon.log_text())

    def reload(self, daemon: Daemon, result: str, count: int) -> None:
        daemon.process.send_signal(signal.SIGHUP)
        limit = time.monotonic() + harness.patience()
        line = f'recserver_tls_reloads_total{{result="{result}"}} {count}\n'
        while line not in daemon.get("/metrics").body.decode():
            self.assertLess(time.monotonic(), limit, daemon.log_text())
            time.sleep(0.01)

    def test_two_kinds_of_key_serve_each_client_the_one_it_can_verify(self) -> None:
        make_certificate("rsa", kind="rsa")
        daemon = self.start(
            *("--tls-port", "0", "--tls-certificate-file", f"{FOLDER}/server.pem:{FOLDER}/rsa.pem"),
            *("--tls-key-file", f"{FOLDER}/server.key:{FOLDER}/rsa.key"),
        )
        for algorithm, told in (("ECDSA", "id-ecPublicKey"), ("RSA", "rsaEncryption")):
            text = openssl(
                *f"s_client -connect 127.0.0.1:{tls_port(daemon)} -tls1_2".split(),
                *("-cipher", f"ECDHE-{algorithm}-AES128-GCM-SHA256"),
            )
            parsed = openssl("x509", "-noout", "-text", stdin=text.encode())
            self.assertIn(told, parsed)

    def test_an_expired_certificate_serves_and_is_warned_about(self) -> None:
        make_certificate("old", days=0)
        time.sleep(1)
        (FOLDER / "old.key").chmod(0o644)
        daemon = self.secured(certificate="old")
        self.assertIn("a certificate has expired", daemon.log_text())
        self.assertIn("everybody on this machine may read a private key", daemon.log_text())

    def test_a_drain_closes_sessions_in_order(self) -> None:
        daemon = self.secured()
        with connect(daemon, client()) as peer:
            self.assertEqual(ask(peer).status, 200)
            daemon.is_ending = True
            daemon.process.send_signal(signal.SIGTERM)
            # An end without close_notify would be an error here.
            self.assertEqual(peer.recv(100), b"")

    def scanned(self) -> Daemon:
        """A daemon to be looked at by a scanner, which takes its time."""
        if not harness.FULL:
            self.skipTest("minutes")
        make_certificate("rsa", kind="rsa")
        return self.start(
            *("--tls-port", "0", "--tls-certificate-file", f"{FOLDER}/server.pem:{FOLDER}/rsa.pem"),
            *("--tls-key-file", f"{FOLDER}/server.key:{FOLDER}/rsa.key"),
        )

    def test_sslyze_calls_it_compliant(self) -> None:
        daemon = self.scanned()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "sslyze", "--mozilla_config=intermediate"),
                *("--certinfo_ca_file", str(FOLDER / "ca.pem"), f"localhost:{tls_port(daemon)}"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertIn("OK - Compliant", done.stdout, done.stdout[-3000:] + done.stderr)

    def test_testssl_finds_nothing_above_low(self) -> None:
        daemon = self.scanned()
        report = FOLDER / "testssl.json"
        subprocess.run(
            [
                *f"testssl --quiet --color 0 --warnings off --jsonfile {report}".split(),
                *("--add-ca", str(FOLDER / "ca.pem"), f"localhost:{tls_port(daemon)}"),
            ],
            capture_output=True,
            timeout=400,
            stdin=subprocess.DEVNULL,
        )
        found = json.loads(report.read_text())
        self.assertGreater(len(found), 100)
        self.assertEqual([f for f in found if f["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")], [])
