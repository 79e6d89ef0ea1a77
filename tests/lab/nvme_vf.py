# SPDX-License-Identifier: Apache-2.0
"""What an NVMe VF needs from its PF before it has a disk: queues, interrupts, to be online, and a namespace."""

# By admin commands to the PF's controller, as `nvme virt-mgmt` and `nvme attach-ns` send them. In QEMU the controller
# of vf0 has the identifier 1, and so on; it gets the namespace of the same number.
NVME_VF = b"""
import ctypes, fcntl, os, struct, sys
pf, controllers = sys.argv[1], [int(word) for word in sys.argv[2:]]
[name] = os.listdir(f"/sys/bus/pci/devices/{pf}/nvme")
device = os.open(f"/dev/{name}", os.O_RDWR)
def admin(opcode, *, nsid=0, cdw10=0, cdw11=0, data=b"", known=0):
    buffer = ctypes.create_string_buffer(data, len(data) or 1)
    place = ctypes.addressof(buffer) if data else 0
    words = (opcode, 0, 0, nsid, 0, 0, 0, place, 0, len(data), cdw10, cdw11, 0, 0, 0, 0, 5000, 0)
    command = bytearray(struct.pack("<BBHIIIQQII6III", *words))
    status = fcntl.ioctl(device, 0xC0484E41, command)  # NVME_IOCTL_ADMIN_CMD
    if status & 0x7FF not in (0, known):  # 0x118: it is attached already
        sys.exit(f"admin command {opcode:#x} {cdw10:#x}: NVMe status {status:#x}")
def manage(controller, action, resource=0, number=0):
    admin(0x1C, cdw10=action | resource << 8 | controller << 16, cdw11=number)
for controller in controllers:
    manage(controller, 7)  # offline
    manage(controller, 8, 0, 2)  # two queues
    manage(controller, 8, 1, 1)  # one interrupt
    manage(controller, 9)  # online
    admin(0x15, nsid=controller, data=struct.pack("<HH", 1, controller).ljust(4096, bytes(1)), known=0x118)
"""
