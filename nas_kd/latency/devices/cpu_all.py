"""Every core there is, spinning: the lowest latency of this CPU, when nothing else runs on it."""

from nas_kd.latency.device_profile import DeviceProfile

PLUGIN = DeviceProfile(
    name="cpu-all", summary="this machine's CPU, one spinning thread on every core", threads=None, spinning=True
)
