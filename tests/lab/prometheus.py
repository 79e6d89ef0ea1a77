# SPDX-License-Identifier: Apache-2.0
"""Debian's Prometheus on the lab's host, with the shipped configuration and rules."""

import http.client
import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.lab.install import REPOSITORY
from tests.lab.payload import Content, Entry
from tests.lab.vm import VM

MONITORING = REPOSITORY / "packaging/monitoring"
INTERVAL_S = 2
_CONFIG, _RULES, _UNIT = "/etc/prometheus/prometheus.yml", "/etc/prometheus/rules/vfagent.yml", "lab-prometheus.service"
_PORT = 9090
# It starts as early as the agent, so that it sees the boot.
_SERVICE = f"""[Unit]
DefaultDependencies=no
After=local-fs.target
[Service]
ExecStart=/usr/bin/prometheus --config.file={_CONFIG} --storage.tsdb.path=/var/lib/lab-prometheus \
--web.listen-address=127.0.0.1:{_PORT}
"""


def prometheus_tree() -> dict[str, Content]:
    program = shutil.which("prometheus")
    assert program, "Debian's prometheus is not installed here: python3 tests/environment.py does that"
    place = f"/usr/lib/systemd/system/{_UNIT}"
    return {
        "/usr/bin/prometheus": Path(program),
        _CONFIG: configuration().encode(),
        _RULES: MONITORING / "rules/vfagent.yml",
        place: _SERVICE.encode(),
        f"/etc/systemd/system/sysinit.target.wants/{_UNIT}": Entry(target=place),
    }


def configuration() -> str:
    """The shipped configuration for a Prometheus on the host itself, with a shorter interval."""
    local, fleet, _ = (MONITORING / "prometheus.yml").read_text().partition("  # Over the network")
    assert fleet
    assert "scrape_interval: 15s" in local
    evaluation = f"global:\n  evaluation_interval: {INTERVAL_S}s\n"
    return local.replace("scrape_interval: 15s", f"scrape_interval: {INTERVAL_S}s") + evaluation


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Prometheus:
    """Its API and the agent's page, through the VM's ssh connection."""

    def __init__(self, vm: VM) -> None:
        self._api, self._agent = vm.folder / "prometheus", vm.folder / "metrics"
        vm.remote.forward(self._api, _PORT)
        vm.remote.forward(self._agent, 9862)
        vm.wait_for(self._ready, 120)

    def _ready(self) -> bool:
        try:
            return _get(self._api, "/-/ready").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def page(self) -> bytes:
        """The agent's present metrics page."""
        return _get(self._agent, "/metrics").read()

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self._data("query", query=expression)["result"])

    def value(self, expression: str) -> float:
        """The value of the only series."""
        [series] = self.query(expression)
        return float(series["value"][1])

    def over(self, expression: str, start: float, end: float, step: float = INTERVAL_S) -> list[dict[str, Any]]:
        return list(self._data("query_range", query=expression, start=start, end=end, step=step)["result"])

    def metadata(self, job: str) -> dict[str, str]:
        """The type of each family that the last scrape of a job had."""
        families = self._data("targets/metadata", match_target=f'{{job="{job}"}}')
        return {family["metric"]: family["type"] for family in families}

    def until(self, expression: str, timeout: float = 120) -> None:
        deadline = time.monotonic() + timeout
        while not self.query(expression):
            assert time.monotonic() < deadline, f"{expression} gives nothing after {timeout} s"
            time.sleep(0.5)

    def alerts(self) -> dict[str, str]:
        """The state of each alert that is pending or firing."""
        groups = self._data("rules", type="alert")["groups"]
        states = {rule["name"]: rule["state"] for group in groups for rule in group["rules"]}
        return {name: state for name, state in states.items() if state != "inactive"}

    def _data(self, path: str, **parameters: object) -> Any:
        answer = json.load(_get(self._api, f"/api/v1/{path}?{urlencode(parameters)}"))
        assert answer["status"] == "success", answer
        return answer["data"]


def _get(path: Path, target: str) -> http.client.HTTPResponse:
    connection = _Unix(path)
    connection.request("GET", target)
    return connection.getresponse()


def dashboard_panels() -> Iterator[dict[str, Any]]:
    """Those of a collapsed row after it."""
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        yield panel
        yield from panel.get("panels", ())


def dashboard_queries(**chosen: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each panel with each of its targets, with variables replaced."""
    for panel in dashboard_panels():
        for target in panel.get("targets", ()):
            yield panel, target | {"expr": _filled(target["expr"], chosen)}


def _filled(query: str, chosen: dict[str, str]) -> str:
    for name, value in {"__rate_interval": "5m", **chosen}.items():
        query = query.replace(f"${name}", value)
    return query
