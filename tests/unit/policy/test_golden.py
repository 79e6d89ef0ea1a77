# SPDX-License-Identifier: Apache-2.0
"""All problems of a policy are reported at once, in the order of its lines."""

from tests.unit.policy.conftest import Problems

BAD = """\
version = 2
[agent]
metrics = "nowhere"
resinc = "5min"

[[pf]]
name = "first"
match = { driver = "igb", pcii = "x" }
[[pf.vf]]
index = "9-2"
[[pf.vf]]
vlan = 5000
mac = "01:00:00:00:00:00"
trust = 1

[[pf]]
name = "second"
vfs = 4
match.vendor = "0x8086"
[[pf.vf]]
index = "0,1-3"
qos = 3
[[pf.vf]]
index = "3-4"
min_tx_rate = 5
max_tx_rate = 2
[[pf.vlan]]
id = 10
name = "vlan10"
bridge = "br0"
take_addresses_from = "vlan10"
addresses = [
  "192.168.10.1/24",
  "192.168.10.2",
]

[[guest]]
memory = 512
ipxe = { address = "dhcp", loader = "roms" }
"""

REPORTED = """\
policy.toml:1:11: version: found 2, allowed is 1
policy.toml:3:11: agent.metrics: found "nowhere", allowed is "host:port", "[IPv6]:port", "unix:/absolute/path", or ""
policy.toml:4:1: agent.resinc: found an unknown key, did you mean "resync"? Allowed are metrics, \
metrics_public, metrics_tls, ipxe_source, resync
policy.toml:8:27: pf[0].match.pcii: found an unknown key, did you mean "pci"? Allowed are driver, path, pci, \
vendor, device, mac, interface, host
policy.toml:10:9: pf[0].vf[0].index: found "9-2", but 9-2 is reversed, did you mean 2-9?
policy.toml:12:8: pf[0].vf[1].vlan: found 5000, allowed is 0 to 4094
policy.toml:13:7: pf[0].vf[1].mac: found "01:00:00:00:00:00" (a multicast address: the lowest bit of the first byte is \
set), allowed is "stable", "keep", a unicast MAC, or a template such as "52:54:00:bb:00:{index:02x}", did you mean \
"stable"?
policy.toml:14:9: pf[0].vf[1].trust: found 1, allowed is true or false, did you mean true?
policy.toml:34:3: pf[1].vlan[0].addresses[1]: found "192.168.10.2", allowed is an IP address with its prefix length \
such as "192.168.10.1/24", did you mean "192.168.10.2/24"?
policy.toml:37:1: guest[0].name: found nothing, allowed is a name of a-z, 0-9, _ and -, not beginning with _ or -, at \
most 32
policy.toml:38:10: guest[0].memory: found 512, allowed is a whole number with M, G or T, such as "512M", \
did you mean "512M"?
policy.toml:39:37: guest[0].ipxe.loader: found "roms", allowed is "auto", "image", "rom" or "undionly", did you mean \
"rom"?
"""

AFTER_FIXING = """\
policy.toml:22:7: pf[1].vf[0].qos: found qos without vlan, allowed is qos with vlan
policy.toml:24:9: pf[1].vf[1].index: found index 3 a second time, allowed is once: first used at policy.toml:21: \
pf "second".vf "0,1-3".index
policy.toml:24:9: pf[1].vf[1].index: found "3-4", allowed is 0 to 3: the rule creates 4 VFs
policy.toml:25:15: pf[1].vf[1].min_tx_rate: found 5, allowed is at most max_tx_rate, 2
policy.toml:31:23: pf[1].vlan[0].take_addresses_from: found "vlan10", a port of bridge "br0", allowed is an interface \
that is not a port of it: frames that reach a bridge port belong to the bridge, so an address on the port never \
answers; the addresses belong on the bridge
"""


def test_every_problem_is_reported_with_its_location(problems: Problems) -> None:
    assert problems(BAD) == REPORTED.splitlines()


def test_a_well_formed_rule_is_checked_despite_malformed_others(problems: Problems) -> None:
    fixed = problems(BAD.replace('"192.168.10.2"', '"192.168.10.2/24"'))
    assert [line for line in fixed if ": pf[1]" in line] == AFTER_FIXING.splitlines()


def test_very_many_problems_end_in_a_count(problems: Problems) -> None:
    reported = problems("[[pf]]\nname = 1\nmatch = 1\n" * 150)
    assert len(reported) == 201
    assert reported[-1] == "and 100 more problems"


def test_very_many_unknown_keys_of_one_table_end_in_a_count(problems: Problems) -> None:
    reported = problems("\n".join(f"key{number} = 1" for number in range(30)))
    assert len(reported) == 21
    assert "policy.toml:1:1: found 10 more unknown keys" in reported
