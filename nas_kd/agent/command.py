"""The command line of the device agent: `nas-kd device-agent` and `python -m nas_kd.agent`."""

import argparse
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from nas_kd.agent.handler import RequestLimits
from nas_kd.agent.measurement_queue import MeasurementQueue
from nas_kd.agent.server import AgentServer
from nas_kd.errors import InputError
from nas_kd.latency.agent_protocol import DEFAULT_PORT, TOKEN_VARIABLE, read_token
from nas_kd.latency.device_profile import DeviceProfile, load_device
from nas_kd.plugins import available

QUEUE_TIMEOUT_S = 60.0  # a client that has waited for others this long is asked to come back later


def main(arguments: Sequence[str]) -> int:
    """Run the device agent until it is interrupted.

    Args:
        arguments: Of the command line, without the program's name.

    Returns:
        The exit code: 0, or 2 for bad input.
    """
    options = _parser().parse_args(arguments)
    try:
        server = _server(options)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    sys.stderr.write(f"device agent at {server.url}, profiles: {', '.join(server.queue.names)}\n")
    sys.stderr.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
    finally:
        server.server_close()
        server.queue.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-kd device-agent",
        description="Measure ONNX files on this machine for searches that run on another.",
        epilog=f"The token comes from --token-file or the environment variable {TOKEN_VARIABLE}.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at [default: %(default)s]")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0: any that is free [default: %(default)s]")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a file that holds only the token")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="PEM; the agent then speaks https only")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the certificate's private key, PEM, no passphrase")
    parser.add_argument("--max-mb", type=float, default=100.0, help="largest request, 1 MB = 10^6 bytes [100]")
    parser.add_argument("--time-limit", type=float, default=120.0, help="seconds for a measurement [default: 120]")
    parser.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="NAME",
        help="offer this profile, too: board.toml or package.module:Name",
    )
    return parser


def _server(options: argparse.Namespace) -> AgentServer:
    token = read_token(options.token_file)
    if not 0 <= options.port <= 65_535:
        raise InputError(f"--port must be 0 to 65535, got {options.port}")
    if not (0 < options.max_mb <= 2000 and 1 <= options.time_limit <= 86_400):
        raise InputError("--max-mb must be above 0 and at most 2000, --time-limit 1 to 86400 seconds")
    limits = RequestLimits(max_bytes=int(options.max_mb * 1e6))
    queue = MeasurementQueue(_profiles(options.profile), limits.max_bytes, options.time_limit, QUEUE_TIMEOUT_S)
    tls = _tls(options.certificate, options.key)
    try:
        return AgentServer((options.host, options.port), queue=queue, token=token, limits=limits, tls=tls)
    except OSError as error:
        raise InputError(f"cannot listen at {options.host}:{options.port}: {error.strerror or error}") from error


def _profiles(extra: Sequence[str]) -> dict[str, DeviceProfile]:
    """The built-in profiles that this machine can run, and those of `--profile`, which it must be able to run."""
    profiles = {}
    for name, profile in available("device").items():
        try:
            profile.check()
        except InputError:
            continue
        profiles[name] = profile
    return profiles | {p.name: p for p in map(load_device, extra)}


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        if key is not None:
            raise InputError("--key goes with --certificate")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"certificate {certificate} and key {key or certificate} are not usable: {reason}") from error
    return context


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
