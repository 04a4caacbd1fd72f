"""Starts the servers that are compared, each pinned to its cores, and ends them again."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELEASE = ROOT / ".build" / "release"


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def within(namespace):
    """What a command has to be preceded by to run in a network namespace."""
    return ["ip", "netns", "exec", namespace] if namespace else []


class Server:
    """A server process of ours in a folder of its own; ended, by its own id, when the block ends."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-bench-"))
        self.process = None

    def start(self, command, cores, inside=None):
        log = open(self.folder / "log", "wb")
        command = [*within(inside), "taskset", "-c", cores, *map(str, command)]
        # Each of these replaces itself by the next, so that the process is the server's own.
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def wait_for(self, url, seconds=20, inside=None):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if inside:
                if subprocess.run([*within(inside), "curl", "-fs", url], capture_output=True).returncode == 0:
                    return
            else:
                try:
                    urllib.request.urlopen(url, timeout=1).read()
                    return
                except OSError:
                    pass
            time.sleep(0.05)
        raise SystemExit(f"{self.name} did not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sluice(Server):
    name = "Sluice"

    def __init__(self, cores="0", workers=1, listen="127.0.0.1", settings=None, inside=None):
        super().__init__()
        http, media = free_port(), free_port(socket.SOCK_DGRAM)
        self.url = f"http://{listen}:{http}"
        configuration = {
            "http": {"listen": f"{listen}:{http}"},
            "media": {"listen": listen, "port": media, "workers": workers},
            "auth": {"mode": "open"},
            "log": {"level": "warning"},
            "limits": {"peersPerAddress": 100000, "sessionsPerAddressPerMinute": 1000000, "peers": 100000},
        }
        for section, values in (settings or {}).items():
            configuration.setdefault(section, {}).update(values)
        path = self.folder / "sluice.yaml"
        path.write_text(json.dumps(configuration))
        self.start([RELEASE / "sluice", "serve", "--config", path], cores, inside)
        self.wait_for(f"{self.url}/healthz", inside=inside)

    @property
    def arguments(self):
        return ["--whip", f"{self.url}/load%/whip", "--whep", f"{self.url}/load%/whep"]


class Janus(Server):
    """Debian's Janus with nothing but the videoroom and its HTTP API."""

    name = "Janus"

    def __init__(self, cores="0", event_loops=0):
        super().__init__()
        http = free_port()
        self.url = f"http://127.0.0.1:{http}/janus"
        files = {
            "janus.jcfg": f"""
                general: {{
                    configs_folder = "{self.folder}"
                    debug_level = 2
                    admin_secret = "unused"
                    {"event_loops = %d" % event_loops if event_loops else ""}
                }}
                media: {{ rtp_port_range = "30000-39999" }}
                nat: {{ full_trickle = false }}
                plugins: {{ disable = "libjanus_audiobridge.so,libjanus_echotest.so,libjanus_recordplay.so,libjanus_sip.so,libjanus_nosip.so,libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_voicemail.so,libjanus_lua.so,libjanus_duktape.so" }}
                transports: {{ disable = "libjanus_rabbitmq.so,libjanus_pfunix.so,libjanus_websockets.so,libjanus_mqtt.so,libjanus_nanomsg.so" }}
            """,
            "janus.transport.http.jcfg": f"""
                general: {{ json = "compact" base_path = "/janus" http = true port = {http} ip = "127.0.0.1" https = false }}
                admin: {{ admin_http = false }}
            """,
            "janus.plugin.videoroom.jcfg": "general: { }",
        }
        for name, text in files.items():
            (self.folder / name).write_text(text)
        self.start(["janus", "-F", self.folder, "-C", self.folder / "janus.jcfg"], cores)
        self.wait_for(f"{self.url}/info")

    @property
    def arguments(self):
        return ["--janus", self.url]


def load(server, *arguments, cores="1", inside=None):
    """Runs the load generator against a server and gives its result."""
    command = [*within(inside), "taskset", "-c", cores, RELEASE / "sluice-load", *server.arguments, *arguments]
    command += ["--server-pid", server.process.pid, "--json", "--quiet"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    if done.returncode:
        log = (server.folder / "log").read_text(errors="replace")[-2000:]
        raise SystemExit(f"the load generator failed against {server.name}: {done.stderr}\n{log}")
    return json.loads(done.stdout)


def raise_file_limit():
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
