"""PlatformIO's view of the platform. No package is asked for: the compiler comes from PATH."""

from platformio.platform.base import PlatformBase


class TinyhilPlatform(PlatformBase):
    """All that matters is in builder/main.py and in the project's programs.json."""
