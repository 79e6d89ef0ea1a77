# SPDX-License-Identifier: Apache-2.0
"""The addresses at which metrics may be served."""

from pathlib import Path

import pytest

from tests.unit.policy import trees
from tests.unit.policy.conftest import Problems
from vfagent.store.policy_files import load

TLS = 'metrics_tls = { cert = "/c.pem", key = "/k.pem" }'


@pytest.mark.parametrize("where", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/run/x", ""])
def test_metrics_may_be_served_on_loopback_or_a_socket_without_tls(problems: Problems, where: str) -> None:
    assert not problems(f'[agent]\nmetrics = "{where}"')


@pytest.mark.parametrize("where", ["0.0.0.0:1", "[::]:1", "192.0.2.7:1", "[2001:db8::1]:1"])
def test_a_public_metrics_address_needs_tls_or_metrics_public(problems: Problems, where: str) -> None:
    (line,) = problems(f'[agent]\nmetrics = "{where}"')
    assert line.startswith("policy.toml:2:11: agent.metrics: found")
    assert "set metrics_tls, or metrics_public = true to permit it" in line
    assert not problems(f'[agent]\nmetrics = "{where}"\n{TLS}')
    assert not problems(f'[agent]\nmetrics = "{where}"\nmetrics_public = true')


def test_the_metrics_address_is_checked_despite_other_problems(problems: Problems) -> None:
    first, second = problems('[agent]\nmetrics = "0.0.0.0:1"\n[[bridge]]\nname = 1')
    assert "agent.metrics: found" in first
    assert "bridge[0].name: found" in second


@pytest.mark.parametrize("where", ["metrics.example.com:1", "999.1.1.1:1", "1.2.3:1"])
def test_a_host_name_as_metrics_address_is_refused(problems: Problems, where: str) -> None:
    (line,) = problems(f'[agent]\nmetrics = "{where}"')
    assert "allowed is an IP address or localhost" in line


@pytest.mark.parametrize("where", ["unix:/run/x", ""])
def test_metrics_tls_needs_an_address_and_port(problems: Problems, where: str) -> None:
    (line,) = problems(f'[agent]\nmetrics = "{where}"\n{TLS}')
    assert "allowed is an address and port" in line


def test_the_last_file_that_sets_metrics_gets_the_problem(tmp_path: Path) -> None:
    trees.write(tmp_path, "etc/vfagent/policy.toml", 'agent.metrics = "0.0.0.0:1"')
    trees.write(tmp_path, "etc/vfagent/policy.d/10.toml", 'agent.metrics = "0.0.0.0:2"')
    (line,) = trees.problems(tmp_path)
    assert "10.toml:1:" in line
    trees.write(tmp_path, "etc/vfagent/policy.d/20.toml", "agent.metrics_public = true")
    assert load(tmp_path).agent.metrics == "0.0.0.0:2"
