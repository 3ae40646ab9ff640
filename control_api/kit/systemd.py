"""What a service tells systemd."""

import os
import socket


def notify_ready() -> None:
    """Say that this process can do its work, if systemd waits for that (``Type=notify``, sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        channel.sendall(b"READY=1")
