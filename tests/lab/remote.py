# SPDX-License-Identifier: Apache-2.0
"""The VM's shell, over one ssh connection that stays open."""

import subprocess
import time
from pathlib import Path

from tests.lab.qemu import SSH_PORT

# Key exchanges are slow in software emulation: only one, with the cheapest algorithm.
_OPTIONS = (
    "UserKnownHostsFile=/dev/null",
    "StrictHostKeyChecking=no",
    "LogLevel=ERROR",
    "BatchMode=yes",
    "IdentitiesOnly=yes",
    "KexAlgorithms=curve25519-sha256",
    "ConnectTimeout=10",
    "ServerAliveInterval=30",
    "ServerAliveCountMax=4",
)


def _options() -> list[str]:
    return [word for option in _OPTIONS for word in ("-o", option)]


class Remote:
    """Runs commands in the VM whose QEMU has this process id."""

    def __init__(self, folder: Path, key: Path, pid: int) -> None:
        self._socket = folder / "ssh"
        self._key = key
        self._pid = pid
        self._master: subprocess.Popen[bytes] | None = None

    def connect(self, deadline: float) -> None:
        """Retries until the VM answers."""
        while not self.connected():
            if time.monotonic() > deadline:
                raise TimeoutError("the VM does not answer on ssh")
            self._ensure_master()
            time.sleep(0.1)

    def connected(self) -> bool:
        check = self.argv("-O", "check")
        return subprocess.run(check, check=False, capture_output=True).returncode == 0

    def _ensure_master(self) -> None:
        if self._master is None or self._master.poll() is not None:
            self._socket.unlink(missing_ok=True)
            self._master = self._start_master()

    def _start_master(self) -> subprocess.Popen[bytes]:
        network = ["nsenter", f"--net=/proc/{self._pid}/ns/net"]
        ssh = ["ssh", *_options(), "-i", str(self._key), "-p", str(SSH_PORT)]
        master = ["-M", "-N", "-S", str(self._socket), "root@127.0.0.1"]
        argv = ["setpriv", "--pdeathsig", "KILL", *network, *ssh, *master]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet)

    def argv(self, *options: str) -> list[str]:
        """An ssh command over the open connection."""
        shared = ["-o", "ControlMaster=no", "-S", str(self._socket)]
        return ["ssh", *_options(), *shared, *options, "root@127.0.0.1"]

    def run(self, command: str, data: bytes | None, timeout: float) -> subprocess.CompletedProcess[bytes]:
        argv = [*self.argv(), "--", command]
        return subprocess.run(argv, check=False, capture_output=True, timeout=timeout, input=data or b"")

    def by_another_nic(self, port: int, command: str, timeout: float) -> subprocess.CompletedProcess[bytes]:
        """Runs a command over a connection of its own, which ends 10 s after the VM last answered."""
        network = ["nsenter", f"--net=/proc/{self._pid}/ns/net"]
        alive = ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=2"]
        ssh = ["ssh", *alive, *_options(), "-i", str(self._key), "-p", str(port), "root@127.0.0.1", "--", command]
        return subprocess.run([*network, *ssh], check=False, capture_output=True, timeout=timeout)

    def forward(self, path: Path, port: int) -> None:
        """Forwards a port of the VM's loopback to a socket here, for as long as the connection lasts."""
        argv = self.argv("-O", "forward", "-L", f"{path}:127.0.0.1:{port}")
        subprocess.run(argv, check=True, capture_output=True)

    def close(self) -> None:
        if self._master:
            self._master.kill()
            self._master.wait()
        self._master = None
        self._socket.unlink(missing_ok=True)
