# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes the service, and runs the queries of the dashboard."""

import json
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.namespace import ip
from tests.host.test_agent import OTHER, PF, POLICY, Service, reload
from tests.host.waiting import wait_until

pytestmark = pytest.mark.wide
MONITORING = Path(__file__).parents[2] / "packaging/monitoring"
CONFIG = """\
global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: vfagent
    static_configs: [{{targets: ["127.0.0.1:9862"]}}]
"""


class Prometheus:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "prometheus.yml").write_text(CONFIG.format(rules=MONITORING / "rules/vfagent.yml"))
        argv = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        self.log = open(folder / "log", "w")  # noqa: SIM115
        self.process = subprocess.Popen([*argv, "--web.listen-address=127.0.0.1:9090"], stderr=self.log)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.log.close()

    def query(self, expression: str) -> list[Any]:
        return list(self._get(f"query?query={urllib.parse.quote(expression)}")["result"])

    def metadata(self) -> list[Any]:
        return list(self._get("targets/metadata"))

    def alerts(self) -> set[str]:
        return {alert["labels"]["alertname"] for alert in self._get("alerts")["alerts"]}

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:9090/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]

    def until(self, expression: str) -> None:
        end = time.monotonic() + 15
        while True:
            try:
                if self.query(expression):
                    return
            except OSError:
                assert self.process.poll() is None
            assert time.monotonic() < end, expression
            time.sleep(0.1)


@pytest.fixture
def files(kernel: None, tmp_path: Path) -> FakeKernel:
    ip("link", "set", "lo", "up")
    files = FakeKernel(tmp_path / "root")
    files.tree.policy(POLICY)
    for address in (PF, OTHER):
        files.tree.add_pf(address)
    return files


@pytest.fixture
def service(files: FakeKernel, tmp_path: Path) -> Iterator[Service]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(0)
        started = Service(files.tree.root, systemd, tmp_path / "notify").ready()
        yield started
        started.process.kill()
        started.process.wait()


@pytest.fixture
def prometheus(service: Service, tmp_path: Path) -> Iterator[Prometheus]:
    started = Prometheus(tmp_path / "prometheus")
    yield started
    started.stop()


# Without data here: the fake kernel's PFs have no counters, and some events have not happened.
WITHOUT_DATA = re.compile(
    r"_bytes_total|_packets_total|vf_differs|vf_not_isolated|pf_differs|pf_unsupported|boot_to_ready|drift|guest"
)


def test_the_queries_of_the_dashboard_return_data(files: FakeKernel, service: Service, prometheus: Prometheus) -> None:
    prometheus.until('vfagent_pf_phase{phase="converged"} == 1')
    files.tree.policy(POLICY.replace("2", "3"))  # so that rates have something to show
    reload(service)
    prometheus.until('sum(increase(vfagent_steps_total{step="set_numvfs"}[1m])) > 0')
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    chosen = {"$job": "vfagent", "$instance": "127.0.0.1:9862", "$pf": PF, "$__rate_interval": "1m"}
    panels = [panel for top in dashboard["panels"] for panel in (top, *top.get("panels", ()))]  # a row has its own
    empty = [
        query
        for panel in panels
        for target in panel.get("targets", ())
        if not prometheus.query(query := _with(target["expr"], chosen))
    ]
    assert [query for query in empty if not WITHOUT_DATA.search(query) and "> 0" not in query] == []
    assert prometheus.query("count(vfagent_vf_info)")[0]["value"][1] == "6"
    assert prometheus.query("instance:vfagent_pf_converged:ratio")[0]["value"][1] == "1"
    assert prometheus.query("scrape_duration_seconds < 1")
    assert prometheus.query("process_resident_memory_bytes > 1e6")


def test_prometheus_scrapes_openmetrics(service: Service, prometheus: Prometheus) -> None:
    """Where the family of a counter is named without its suffix."""
    prometheus.until("vfagent_rounds_total > 0")
    known = {family["metric"]: family["type"] for family in prometheus.metadata()}
    assert known["vfagent_rounds"] == "counter"
    assert "vfagent_rounds_total" not in known


def _with(query: str, chosen: dict[str, str]) -> str:
    for name, value in chosen.items():
        query = query.replace(name, value)
    return query


def test_only_the_expected_alerts_are_pending(files: FakeKernel, service: Service, prometheus: Prometheus) -> None:
    prometheus.until('vfagent_pf_phase{phase="converged"} == 1')
    prometheus.until("instance:vfagent_pf_converged:ratio")
    wait_until(lambda: prometheus.alerts() == set(), prometheus.alerts)  # VfagentAbsent, before the first scrape
    files.hang(PF, "sriov_numvfs")
    files.tree.policy(POLICY.replace("vfs = 2", "vsf = 2"))
    reload(service)
    prometheus.until('ALERTS{alertname="VfagentPolicyInvalid"}')
    files.tree.policy(POLICY.replace("2", "3"))
    reload(service)
    prometheus.until('ALERTS{alertname="VfagentVfsMissing"}')
    assert prometheus.alerts() <= {"VfagentVfsMissing", "VfagentPfNotConverging", "VfagentPolicyInvalid"}
