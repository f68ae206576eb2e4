"""One thread on one core: what a phone app, a microservice or an embedded board usually grants a small network."""

from nas_kd.latency.device_profile import DeviceProfile

PLUGIN = DeviceProfile(name="cpu-1t", summary="this machine's CPU, one thread pinned to one core", threads=1)
