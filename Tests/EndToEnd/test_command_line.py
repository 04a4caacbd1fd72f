"""The command line: what it prints, and how it ends."""

import asyncio
import datetime
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.request

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aiortc_peers import Publisher
from sluice import PROGRAM, ROOT, Server


def run(*arguments, environment=None):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, env=environment or {})


def test_version():
    result = run("version")
    assert result.returncode == 0 and result.stdout.startswith("sluice ")


@pytest.mark.parametrize("arguments", [["serve", "--nonsense"], ["nonsense"], ["check-config"], ["serve", "--config"]])
def test_wrong_arguments_end_with_64(arguments):
    result = run(*arguments)
    assert result.returncode == 64 and result.stderr


@pytest.mark.parametrize("file", sorted((ROOT / "Configs").iterdir()), ids=lambda file: file.name)
def test_the_examples_are_good(file):
    checked = run("check-config", str(file), environment={"SLUICE_AUTH_OPERATOR_TOKEN": "a-token-of-my-own-making"})
    assert checked.returncode == 0 and checked.stderr == ""


@pytest.mark.parametrize("word", ["replace-me-with-32-random-characters", "Please-CHANGEME-before-you-start-it-up", "change_me_" * 5])
@pytest.mark.parametrize("key", ["operatorToken", "secret"])
def test_the_words_of_examples_are_no_secrets(tmp_path, key, word):
    file = tmp_path / "shipped.yaml"
    file.write_text(f"auth:\n  mode: token\n  {key}: {word}\n")
    for result in (run("check-config", str(file)), run("serve", "--config", str(file))):
        assert result.returncode == 1 and f"auth.{key}: " in result.stderr and "on line 3" in result.stderr
        assert word not in result.stderr
    shipped = run("check-config", str(ROOT / "Configs/public.yaml"))
    assert shipped.returncode == 1 and "auth.operatorToken" in shipped.stderr


def test_every_problem_names_its_line(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("""# The first line.
http:
  listen: nowhere
  trustedProxies:
    - 10.0.0.0/8
    - 10.0.0.0/33
  allowedOrigins: [
    "https://fine.example",
    "not one"]
auth:
  operatorToken: [a, list]
  secret:
    - another
  audience: {a: section}
media:
  announce: ["203.0.113.1",
    "nonsense"]
limits:
  peers: many
ice:
  servers:
    - url: stun:fine.example
    - url: gopher:bad.example
typo: 1
""")
    result = run("check-config", str(file), environment={"SLUICE_LIMITS_PEERS_PER_ADDRESS": "none"})
    found = {line.split(":")[0]: line for line in result.stderr.strip().splitlines()}
    expected = {"http.listen": 3, "http.trustedProxies": 6, "http.allowedOrigins": 9, "auth.operatorToken": 11, "auth.secret": 12,
                "auth.audience.a": 14, "media.announce": 17, "limits.peers": 19, "ice.servers": 23, "typo": 24}
    assert result.returncode == 1
    assert {key: f" on line {number}," in found.get(key, "") for key, number in expected.items()} == dict.fromkeys(expected, True), found
    # What the environment set is in no line of the file.
    assert "on line" not in found["limits.peersPerAddress"]
    result = run("check-config", str(file), environment={"SLUICE_LIMITS_PEERS": "none"})
    assert "on line" not in next(line for line in result.stderr.splitlines() if line.startswith("limits.peers:"))
    # What is missing is missing because of something.
    for text, missing, line in [("# a\nmedia:\n  listen: 0.0.0.0\n", "auth.mode", 3), ("http:\n  listen: '[::]:80'\n", "auth.mode", 2),
                                ("auth: \n\n  mode: token\n", "auth.operatorToken", 3),
                                ("http: {tls: {privateKey: /dev/null}}\n", "http.tls.certificate", 1)]:
        file.write_text(text)
        result = run("check-config", str(file))
        assert result.stderr.startswith(f"{missing}: found nothing") and f" on line {line}, expected" in result.stderr, result.stderr
    for text in ("http:\n  listen: [\n", "http: 1\nmedia: {}\nhttp: 2\n", "- a\n- list\n"):
        file.write_text(text)
        result = run("check-config", str(file))
        assert result.returncode == 1 and "on line " in result.stderr, result.stderr


def test_what_kubernetes_sets_stops_nothing():
    injected = {"SLUICE_PORT": "tcp://10.0.0.1:8080", "SLUICE_SERVICE_HOST": "10.0.0.1", "SLUICE_PORT_8080_TCP_ADDR": "10.0.0.1",
                "SLUICE_HTTP_PORT": "tcp://10.0.0.1:80", "SLUICE_HTTP_SERVICE_PORT_WEB": "80", "SLUICE_HTTP_PORT_80_TCP": "tcp://10.0.0.1:80"}
    checked = run("check-config", str(ROOT / "Configs/local.yaml"), environment=injected)
    assert checked.returncode == 0
    assert [line.split(":")[0] for line in checked.stderr.splitlines()] == sorted(injected) and "10.0.0.1" not in checked.stderr
    with Server(environment=injected) as server:
        assert urllib.request.urlopen(f"{server.url}/healthz").status == 200
        assert all(name in server.log_text() for name in injected) and "10.0.0.1" not in server.log_text()


@pytest.mark.parametrize("arguments", [["serve", "--media-port", "0"], ["check-config", str(ROOT / "Configs/local.yaml")],
                                       ["token", "--role", "view"]], ids=lambda arguments: arguments[0])
def test_a_misspelt_variable_that_matters_stops_the_start(arguments):
    result = run(*arguments, environment={"SLUICE_AUTH_MOD": "token", "SLUICE_AUTH_SECRET": "0123456789abcdef0123456789abcdef"})
    assert result.returncode == 1 and "SLUICE_AUTH_MOD: " in result.stderr and "such as SLUICE_AUTH_MODE:" in result.stderr
    assert result.stdout == "" and "0123456789abcdef" not in result.stderr


def test_a_secret_may_be_in_a_file_of_its_own(tmp_path):
    file = tmp_path / "secret"
    file.write_text("0123456789abcdef0123456789abcdef\n")
    assert run("token", "--role", "view", environment={"SLUICE_AUTH_SECRET_FILE": str(file)}).stdout.count(".") == 2
    file.unlink()
    result = run("token", "--role", "view", environment={"SLUICE_AUTH_SECRET_FILE": str(file)})
    assert result.returncode == 1 and "SLUICE_AUTH_SECRET_FILE: " in result.stderr and result.stdout == ""


def test_the_environment_is_checked_as_it_is_served():
    checked = run("check-config", str(ROOT / "Configs/local.yaml"), environment={"SLUICE_MEDIA_PORT": "eighty"})
    assert checked.returncode == 1 and checked.stderr.startswith("media.port: ")


def test_a_bad_configuration_is_explained_a_line_a_problem(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("media: { port: 80, listen: nowhere }\nlimits: { peers: -1 }\ntypo: 1\n")
    result = run("check-config", str(file))
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 1
    assert [line.split(":")[0] for line in lines] == ["limits.peers", "media.listen", "media.port", "typo"]
    assert all("found" in line and "expected" in line for line in lines)
    result = run("serve", "--config", str(file))
    assert result.returncode == 1 and "media.port" in result.stderr
    assert run("check-config", str(tmp_path / "absent.yaml")).returncode == 1


def test_listening_to_others_says_how_to_set_the_mode():
    result = run("serve", "--http-listen", "0.0.0.0:0")
    assert result.returncode == 1
    assert "auth.mode" in result.stderr and "SLUICE_AUTH_MODE" in result.stderr


def test_a_port_that_is_taken_is_named(server):
    result = run("serve", "--http-listen", f"127.0.0.1:{server.http_port}", "--media-port", "0")
    assert result.returncode == 1 and "http.listen" in result.stderr, result.stderr
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        result = run("serve", "--http-listen", "127.0.0.1:0", "--media-port", str(port), "--workers", "1")
        assert result.returncode == 1 and "media.port" in result.stderr and str(port) in result.stderr


def test_a_program_without_its_pages_says_so(tmp_path):
    alone = tmp_path / "sluice"
    shutil.copy(PROGRAM, alone)
    result = subprocess.run([alone, "serve", "--http-listen", "127.0.0.1:0", "--media-port", "0"],
                            capture_output=True, text=True, timeout=60, env={})
    assert result.returncode == 1 and "sluice_Control.resources" in result.stderr, result.stderr


def make_certificate(folder, name="certificate"):
    """A self-signed certificate and its key: two paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
                   .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
                   .sign(key, hashes.SHA256()))
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}-key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return str(folder / f"{name}.pem"), str(folder / f"{name}-key.pem")


def test_https(tmp_path):
    certificate, key = make_certificate(tmp_path)
    with Server(environment={"SLUICE_HTTP_TLS_CERTIFICATE": certificate, "SLUICE_HTTP_TLS_PRIVATE_KEY": key}) as server:
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        url = server.url.replace("http:", "https:")
        assert urllib.request.urlopen(f"{url}/healthz", context=unverified).status == 200
        page = urllib.request.urlopen(urllib.request.Request(f"{url}/", method="HEAD"), context=unverified)
        assert page.status == 200 and page.read() == b"" and "default-src 'none'" in page.headers["Content-Security-Policy"]
        for version in ("-tls1", "-tls1_1", "-tls1_2", "-tls1_3"):
            # The client itself is told that any version is good enough.
            shaken = subprocess.run(
                ["openssl", "s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect", f"127.0.0.1:{server.http_port}"],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
            assert ("BEGIN CERTIFICATE" in shaken.stdout) == (version in ("-tls1_2", "-tls1_3")), (version, shaken.stderr)


def test_a_certificate_and_a_key_have_to_be_a_pair(tmp_path):
    certificate, key = make_certificate(tmp_path)
    other, other_key = make_certificate(tmp_path, "other")
    (tmp_path / "no-key.pem").write_text("no key")
    file = tmp_path / "tls.yaml"
    for chosen, wrong in [((certificate, other_key), "http.tls.privateKey"), ((key, key), "http.tls.certificate"),
                          ((certificate, certificate), "http.tls.privateKey"),
                          ((certificate, str(tmp_path / "no-key.pem")), "http.tls.privateKey"),
                          ((certificate, str(tmp_path / "absent.pem")), "http.tls.privateKey"), ((other, other_key), None)]:
        file.write_text("http:\n  tls:\n    certificate: {}\n    privateKey: {}\n".format(*chosen))
        checked = run("check-config", str(file))
        if wrong is None:
            assert checked.returncode == 0, checked.stderr
            continue
        assert checked.returncode == 1 and checked.stderr.startswith(f"{wrong}: "), checked.stderr
        assert " on line " in checked.stderr
        served = run("serve", "--config", str(file), "--http-listen", "127.0.0.1:0", "--media-port", "0")
        assert served.returncode == 1 and wrong in served.stderr


@pytest.mark.asyncio
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_drains_and_ends_with_0(how):
    with Server() as server:
        publisher = Publisher(server, "stopping")
        await publisher.negotiate()
        await publisher.connected()
        assert urllib.request.urlopen(f"{server.url}/readyz").status == 200
        status = await asyncio.to_thread(server.stop, how)
        assert status == 0
        # The peer is told by DTLS, it need not find out.
        async with asyncio.timeout(5):
            while publisher.connection.connectionState == "connected":
                await asyncio.sleep(0.05)
        await publisher.close(hang_up=False)
