# SPDX-License-Identifier: Apache-2.0
"""TCP between network namespaces of a VM, one of which may be the VM's own: "host"."""

from tests.lab.vm import VM

# Sends a number of MB; the receiver prints how many arrive within the limit.
TRANSFER = b"""
import socket, subprocess, sys, time
listener, sender, address, megabytes, limit = *sys.argv[1:4], int(sys.argv[4]), float(sys.argv[5])
def inside(name):
    return [] if name == "host" else ["ip", "netns", "exec", name]
serve = f'''
import socket, sys
with socket.create_server(("{address}", 7000), reuse_port=True) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    connection.settimeout({limit})
    total = 0
    try:
        while data := connection.recv(1 << 20):
            total += len(data)
    except TimeoutError:
        pass
    print(total >> 20)
'''
send = f'''
import socket
with socket.create_connection(("{address}", 7000), {limit}) as connection:
    block = bytes(1 << 20)
    for _ in range({megabytes}):
        connection.sendall(block)
'''
server = subprocess.Popen([*inside(listener), "python3", "-c", serve], stdout=subprocess.PIPE, text=True)
server.stdout.readline()
client = subprocess.Popen([*inside(sender), "python3", "-c", send], stderr=subprocess.DEVNULL)
try:
    print(server.communicate(timeout=limit)[0].strip())
except subprocess.TimeoutExpired:
    server.kill()
    print("stalled")
client.kill()
"""


def transfer(vm: VM, listener: str, sender: str, address: str, megabytes: int, limit: float) -> str:
    argv = f"{listener} {sender} {address} {megabytes} {limit}"
    return vm.run(f"python3 /usr/lib/transfer.py {argv}", timeout=limit + 60).stdout.strip()
