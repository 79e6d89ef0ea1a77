# SPDX-License-Identifier: Apache-2.0
"""Which packages have what guests need, by their names in Debian and in Fedora. Pure."""

from vfagent.frozen import frozen


@frozen(slots=True)
class Packages:
    """One or more, as `apt install` and `dnf install` take them."""

    debian: str
    fedora: str

    @property
    def hint(self) -> str:
        """Of both, without the command of one."""
        same = self.fedora == self.debian
        return f"install {self.debian}" if same else f"install {self.debian}, on Fedora {self.fedora}"


EMULATOR = Packages("qemu-system-x86", "qemu-system-x86-core")
FIRMWARE = Packages("ovmf", "edk2-ovmf")
IPXE = Packages("ipxe", "ipxe-bootimgs-x86")
ISO_IMAGES = Packages("python3-pycdlib", "python3-pycdlib")
ROM_BUILD = Packages("gcc make perl liblzma-dev", "gcc make perl xz-devel")
TPM = Packages("swtpm", "swtpm")
