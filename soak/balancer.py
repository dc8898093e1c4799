"""An nginx that spreads requests over replicas, and finds out by them who does not answer."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import psutil

from soak.servers import NotServed

PORT = 8000
#: What nginx does by itself: a POST that was sent is never sent again.
UNSENT = "error timeout"
#: Predictions change nothing, so each may be computed again elsewhere; so may what a server that
#: ends has refused.
PREDICTIONS = "error timeout http_502 http_503 http_504 non_idempotent"
Retries = Literal["unsent", "predictions"]
CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream replicas {{
    least_conn;
    {servers}
    keepalive 32;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://replicas;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_connect_timeout 1s;
      proxy_read_timeout 5s;
      proxy_next_upstream {retries};
      proxy_next_upstream_tries 3;
    }}
  }}
}}
"""


class Balancer:
    """nginx in the namespace of this process, before servers (host:port)."""

    def __init__(self, folder: Path, servers: Sequence[str]) -> None:
        self._folder = folder
        self._servers = servers
        self._process: psutil.Popen | None = None
        folder.mkdir()

    @property
    def base(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{PORT}"

    def start(self, retries: Retries) -> None:
        """Start it with what it sends again; an earlier one is stopped."""
        self.stop()
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if nginx is None:
            raise NotServed(
                "the balancer is nginx, and it is not there: apt-get install nginx-light"
            )
        servers = (f"server {each} max_fails=1 fail_timeout=2s;" for each in self._servers)
        config = self._folder / "nginx.conf"
        config.write_text(
            CONFIG.format(
                folder=self._folder,
                port=PORT,
                servers="\n    ".join(servers),
                retries=PREDICTIONS if retries == "predictions" else UNSENT,
            )
        )
        command = [nginx, "-e", str(self._folder / "error.log"), "-c", str(config)]
        self._process = psutil.Popen(command, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(10)
            self._process = None
