"""A network of its own on this machine, reached over a virtual cable: what is in it sees no loopback of ours."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Namespace:
    """`prefix`: what stands before a command that is to run in it; `address`: where it can be reached from here."""

    prefix: tuple[str, ...]
    address: str


@contextmanager
def network_namespace() -> Iterator[Namespace]:
    """Make one, and remove it in the end (needs iproute2, and the rights to).

    Raises:
        OSError: this system or this user cannot make one.
    """
    number = os.getpid() % 100_000
    name, here, there = f"nas-kd-{number}", f"nk{number}a", f"nk{number}b"
    ours, theirs = (f"10.231.{number % 250}.{last}" for last in (1, 2))
    _ip("netns", "add", name)
    try:
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        _ip("addr", "add", f"{ours}/30", "dev", here)
        _ip("link", "set", here, "up")
        _ip("-n", name, "addr", "add", f"{theirs}/30", "dev", there)
        _ip("-n", name, "link", "set", there, "up")
        yield Namespace(("ip", "netns", "exec", name), theirs)
    finally:
        _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
