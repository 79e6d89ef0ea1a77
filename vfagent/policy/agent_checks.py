# SPDX-License-Identifier: Apache-2.0
"""What must hold between the keys of [agent]."""

from collections.abc import Iterator

from vfagent.policy.problems import Problem, quoted
from vfagent.policy.source_locations import Place
from vfagent.policy.types import AgentRule


def check_agent(rule: AgentRule, at: Place) -> Iterator[Problem]:
    """`at`: [agent] of the last file that says where metrics are served."""
    if rule.metrics == "" or rule.metrics.startswith("unix:"):
        if rule.metrics_tls:
            found = quoted(rule.metrics)
            yield (at / "metrics").problem(f"found {found} with metrics_tls, allowed is an address and port with it")
        return
    host = rule.metrics.rpartition(":")[0].strip("[]")
    loopback = _loopback(host)
    if loopback is None:
        why = "names cannot be asked for before the network is up"
        yield (at / "metrics").problem(f"found {quoted(host)}, allowed is an IP address or localhost: {why}")
    elif not (loopback or rule.metrics_tls or rule.metrics_public):
        why = "whoever reaches this host could read them: metrics_tls protects them, metrics_public = true permits it"
        yield (at / "metrics").problem(f"found {quoted(host)}, allowed is an address such as 127.0.0.1: {why}")


def _loopback(host: str) -> bool | None:
    """Whether only this host reaches it; None for a name."""
    import ipaddress  # only an address that somebody wrote needs it

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return None
