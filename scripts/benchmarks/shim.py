"""The smallest process that could stand between a host and a kernel: bytes from standard input to a socket and back.

Usage: python -I -S shim.py SOCKET. What a bridge costs is measured against it.
"""

import os
import select
import socket
import sys

kernel = socket.socket(socket.AF_UNIX)
kernel.connect(sys.argv[1])
ways = {0: kernel.fileno(), kernel.fileno(): 1}
while True:
    for source in select.select(list(ways), [], [])[0]:
        data = memoryview(os.read(source, 1 << 16))
        if not data and source:
            sys.exit()
        if not data:
            kernel.shutdown(socket.SHUT_WR)
            del ways[0]
        while data:
            data = data[os.write(ways[source], data) :]
