"""The nginx before TorchServe: the config that it is given, its start and its end.

It speaks with clients: TLS, bounds on what they send and how slowly, whole bodies before anything
else happens, answers kept for slow readers. Each request passes two of its servers. The outer one
asks the dispatcher whether the key is right, then waits for a whole body, and passes it on. The
inner one asks the dispatcher for a turn and gives the request to a TorchServe; it waits for the
answer even where the client has left, because TorchServe computes it anyway. Which TorchServe, the
dispatcher says in a header: so nothing here changes when models come and go.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from torchscript_bundle.server.state import ServerError
from torchscript_bundle.serving.api.http import MAX_RESPONSE_SIZE

#: Places for TorchServes: two for a model that is being replaced.
SLOTS = 64
#: Of TorchServe: max_request_size in server/config.properties.
MAX_BODY = 1 << 20
CONNECTIONS = 4096
#: Where Debian has it, beside the usual places.
PLACES = "/usr/sbin:/usr/local/sbin:/usr/local/nginx/sbin"


def find_nginx() -> str | None:
    """Return the path of nginx; None if it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:{PLACES}")


@dataclass(frozen=True)
class Address:
    """Where clients connect; with TLS if there is a certificate."""

    host: str
    port: int
    certificate: Path | None = None
    certificate_key: Path | None = None

    @property
    def place(self) -> str:
        """Host and port, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as clients write it."""
        return f"http{'s' if self.certificate else ''}://{self.place}"


class Front:
    """One nginx, with its files in `folder`, whose path must be short: it has unix sockets."""

    def __init__(self, address: Address, folder: Path, log_dir: Path) -> None:
        self.address = address
        self._folder = folder
        self._log = log_dir / "front.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dispatcher(self) -> Path:
        """The socket on which nginx asks the dispatcher."""
        return self._folder / "dispatcher"

    @property
    def finished(self) -> Path:
        """The pipe into which nginx writes a line about each finished request.

        Datagrams of its syslog would be dropped while the supervisor is busy; this one waits.
        """
        return self._folder / "finished"

    def slot(self, number: int) -> Path:
        """The socket of a TorchServe."""
        return self._folder / f"{number}"

    def start(self) -> None:
        """Start nginx; ServerError if it is not installed or does not start."""
        program = find_nginx()
        if program is None:
            raise ServerError(
                "nginx is not installed, which stands before TorchServe; install it "
                "(`apt-get install nginx-light`, `dnf install nginx`, `apk add nginx`)"
            )
        config = self._folder / "nginx.conf"
        config.write_text(self.config())
        # Until it has opened the log that the config names, it would write to a compiled-in one.
        command = [program, "-e", str(self._log), "-p", str(self._folder), "-c", str(config)]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        if checked.returncode != 0:
            raise ServerError(f"nginx does not take its config: {checked.stderr.strip()}")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    @property
    def running(self) -> bool:
        """Whether nginx runs."""
        return self._process is not None and self._process.poll() is None

    def quit(self, seconds: float) -> None:
        """End nginx once the requests that it has are answered, at most after so many seconds."""
        self._end(signal.SIGQUIT, seconds)

    def kill(self) -> None:
        """End nginx at once."""
        self._end(signal.SIGTERM, 5.0)

    def _end(self, how: signal.Signals, seconds: float) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.terminate()
                self._process.wait()
        self._process = None

    def config(self) -> str:
        """Return nginx's config."""
        owner = pwd.getpwuid(os.getuid()).pw_name if os.getuid() == 0 else ""
        slots = "\n".join(
            f"  upstream slot{number} {{ server unix:{self.slot(number)}; keepalive 64; }}"
            for number in range(SLOTS)
        )
        values = {
            "USER": f"user {owner};" if owner else "",
            "FOLDER": str(self._folder),
            "LOG": str(self._log),
            "CONNECTIONS": str(CONNECTIONS),
            "MAX_BODY": str(MAX_BODY),
            "ANSWER_BUFFERS": str(MAX_RESPONSE_SIZE // (1 << 17) + 2),
            "SLOTS": slots,
            "LISTEN": self._listen(),
        }
        text = TEMPLATE
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        return text

    def _listen(self) -> str:
        if self.address.certificate is None:
            return f"listen {self.address.place} backlog=1024;"
        return (
            f"listen {self.address.place} ssl http2 backlog=1024;\n"
            f"    ssl_certificate {self.address.certificate};\n"
            f"    ssl_certificate_key {self.address.certificate_key};\n"
            "    ssl_protocols TLSv1.2 TLSv1.3;\n"
            "    ssl_session_cache shared:tls:1m;\n"
            "    ssl_session_tickets off;"
        )


TEMPLATE = (Path(__file__).with_name("nginx.conf")).read_text("utf-8")
