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
    assert run("check-config", str(file)).returncode == 0


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


def test_https(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
                   .sign(key, hashes.SHA256()))
    (tmp_path / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    with Server(environment={"SLUICE_HTTP_TLS_CERTIFICATE": str(tmp_path / "certificate.pem"),
                             "SLUICE_HTTP_TLS_PRIVATE_KEY": str(tmp_path / "key.pem")}) as server:
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        url = server.url.replace("http:", "https:")
        assert urllib.request.urlopen(f"{url}/healthz", context=unverified).status == 200
        page = urllib.request.urlopen(urllib.request.Request(f"{url}/", method="HEAD"), context=unverified)
        assert page.status == 200 and page.read() == b"" and "default-src 'none'" in page.headers["Content-Security-Policy"]
    (tmp_path / "key.pem").write_text("no key")
    result = run("serve", "--http-listen", "127.0.0.1:0", "--media-port", "0", environment={
        "SLUICE_HTTP_TLS_CERTIFICATE": str(tmp_path / "certificate.pem"),
        "SLUICE_HTTP_TLS_PRIVATE_KEY": str(tmp_path / "key.pem")})
    assert result.returncode == 1 and "http.tls" in result.stderr


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
