"""Takes from this process what reading a file does not need: writing, the network, memory and time. Linux mostly.

Landlock (Linux 5.13) denies every access to files that is not granted, from the kernel; descriptors that are open
already stay usable. Run by path in a process of its own; needs the standard library only.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, the same numbers on all architectures
RULE_PATH_BENEATH = 1
VERSION_FLAG = 1
PR_SET_NO_NEW_PRIVS = 38
READ = 1 << 2 | 1 << 3  # files and folders
FILE_ACCESSES = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # version of Landlock -> number of accesses that it can deny
TCP = 1 << 0 | 1 << 1  # bind and connect, from version 4 on
SCOPES = 1 << 0 | 1 << 1  # abstract sockets and signals, from version 6 on


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def limit_resources(memory_bytes: int, output_bytes: int, seconds: int) -> None:
    """Limit what this process may still take; a limit that the system does not know is left out.

    Args:
        memory_bytes: of address space, beside what is taken already.
        output_bytes: of a file.
        seconds: of processor time, from now on.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    limits = {
        "RLIMIT_AS": _address_space() + memory_bytes,
        "RLIMIT_FSIZE": output_bytes,
        "RLIMIT_CPU": used + seconds,
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": 0,  # no further process
        "RLIMIT_NOFILE": 64,
    }
    for name, value in limits.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        _, most = resource.getrlimit(kind)
        limit = value if most == resource.RLIM_INFINITY else min(value, most)
        try:
            resource.setrlimit(kind, (limit, limit))
        except (ValueError, OSError):
            if name == "RLIMIT_AS" and sys.platform == "linux":
                raise


def _address_space() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 2**35


def deny_files_and_network(readable: Iterable[str]) -> int:
    """Deny this process to write, make or remove any file, to read outside of these folders, and to use TCP.

    Args:
        readable: folders that Python still imports from.

    Returns:
        The kernel's version of Landlock, or 0: it has none, and nothing was denied.
    """
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    version = int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(VERSION_FLAG)))
    if version < 1:
        return 0
    accesses = (1 << FILE_ACCESSES.get(version, FILE_ACCESSES[5])) - 1
    rules = _Ruleset(accesses, TCP if version >= 4 else 0, SCOPES if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _checked(libc.syscall(CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0)))
    for path in readable:
        if os.path.isdir(path):
            _allow(libc, ruleset, path)
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(libc.syscall(RESTRICT_SELF, ruleset, ctypes.c_uint32(0)))
    os.close(ruleset)
    return version


def _allow(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = _PathBeneath(READ, folder)
    _checked(libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0)))
    os.close(folder)


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
