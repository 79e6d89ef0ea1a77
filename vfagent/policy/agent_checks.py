# SPDX-License-Identifier: Apache-2.0
"""Checks between the keys of [agent]."""

from collections.abc import Iterator

from vfagent.policy.problems import Problem, quoted
from vfagent.policy.source_locations import Location
from vfagent.policy.types import AgentRule


def check_agent(rule: AgentRule, at: Location) -> Iterator[Problem]:
    """`at`: [agent] of the last file that sets `metrics`."""
    if rule.metrics == "" or rule.metrics.startswith("unix:"):
        if rule.metrics_tls:
            text = f"found {quoted(rule.metrics)} with metrics_tls, allowed is an address and port with it"
            yield (at / "metrics").problem(text)
        return
    host = rule.metrics.rpartition(":")[0].strip("[]")
    loopback = _loopback(host)
    if loopback is None:
        reason = "a name cannot be resolved before the network is up"
        yield (at / "metrics").problem(f"found {quoted(host)}, allowed is an IP address or localhost: {reason}")
    elif not (loopback or rule.metrics_tls or rule.metrics_public):
        reason = "other hosts can read the metrics there; set metrics_tls, or metrics_public = true to permit it"
        yield (at / "metrics").problem(f"found {quoted(host)}, allowed is an address such as 127.0.0.1: {reason}")


def _loopback(host: str) -> bool | None:
    """Whether only this host can reach the address; None for a name."""
    import ipaddress  # only a policy that sets metrics needs it

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return None
