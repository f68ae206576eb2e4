"""Two spinning threads: lower latency for larger networks, at the price of two cores kept busy."""

from nas_kd.latency.device_profile import DeviceProfile

PLUGIN = DeviceProfile(
    name="cpu-2t", summary="this machine's CPU, two spinning threads pinned to two cores", threads=2, spinning=True
)
