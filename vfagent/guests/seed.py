# SPDX-License-Identifier: Apache-2.0
"""The disk image that cloud-init in a guest reads, and the OEM strings that systemd in a guest reads."""

import base64
import io
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.guests.spec.packages import ISO_IMAGES
from vfagent.guests.spec.qemu import Guest, oem_string
from vfagent.policy.types import SeedRule
from vfagent.store.trusted_files import read_trusted

_LABEL = "cidata"  # of cloud-init's data source NoCloud
_LONGEST = 256 << 10  # systemd loads credentials of 1 MiB in all (CREDENTIALS_TOTAL_SIZE_MAX)
_LONGEST_CREDENTIAL = 32 << 10
_MOST_OEM = 48 << 10  # QEMU 7.2 refuses tables of 64 KiB in all (SMBIOS_21_MAX_TABLES_LEN), of which it needs little


def seed_image(root: Path, rule: SeedRule, guest: Guest) -> bytes:
    """Raises VfagentError."""
    user = _content(root, rule.user_data, "the user data of the seed", _LONGEST)
    network = _content(root, rule.network_config, "the network configuration of the seed", _LONGEST)
    meta = _content(root, rule.meta_data, "the metadata of the seed", _LONGEST)
    # cloud-init takes a disk without either for no seed; the file may be empty.
    files = {"user-data": user or b"", "meta-data": meta or _metadata(guest, (user, network))}
    if network is not None:
        files["network-config"] = network
    if (size := sum(map(len, files.values()))) > _LONGEST:
        raise VfagentError(f"its seed has {size} bytes, allowed are {_LONGEST}", hint="fetch the rest from the guest")
    return _iso9660(files)


def _metadata(guest: Guest, others: tuple[bytes | None, ...]) -> bytes:
    """cloud-init applies a seed once for each instance ID, so another seed has another."""
    instance = uuid.uuid5(uuid.UUID(guest.uuid), repr(others))
    return f"instance-id: {instance}\nlocal-hostname: {guest.rule.name}\n".encode()


def _iso9660(files: Mapping[str, bytes]) -> bytes:
    """With Rock Ridge and Joliet, as the names have a hyphen."""
    try:
        from pycdlib.pycdlib import PyCdlib  # guests without a seed do not need it
    except ImportError as error:
        text = "its seed cannot be made: the Python library pycdlib is not installed"
        raise VfagentError(text, hint=ISO_IMAGES.hint) from error
    image, written = PyCdlib(), io.BytesIO()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=_LABEL)
    for name, data in files.items():
        plain = f"/{name.upper().replace('-', '_')}.;1"
        image.add_fp(io.BytesIO(data), len(data), plain, rr_name=name, joliet_path=f"/{name}")
    image.write_fp(written)
    image.close()
    return written.getvalue()


def oem_strings(root: Path, guest: Guest) -> Iterator[tuple[str, bytes]]:
    """By the names of the host's credentials. In base64: a string ends with a NUL. Raises VfagentError."""
    total = 0
    for name, value in guest.rule.credentials:
        data = _content(root, value, f"the credential {name}", _LONGEST_CREDENTIAL, secret=True) or b""
        text = f"io.systemd.credential.binary:{name}={base64.b64encode(data).decode()}".encode()
        total += len(text)
        yield oem_string(name), text
    if total > _MOST_OEM:
        raise VfagentError(f"its credentials come to {total} bytes of SMBIOS, allowed are {_MOST_OEM}")


def _content(root: Path, value: str | None, purpose: str, most: int, *, secret: bool = False) -> bytes | None:
    if value is None or not value.startswith("/"):
        return None if value is None else value.encode()
    return read_trusted(root, value, purpose, most, secret=secret)
