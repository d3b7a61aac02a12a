"""Sources → firmware: project assembly, one PlatformIO run for many programs, a cache by content."""

from tinyhil.harness.build.builder import build, firmware_id
from tinyhil.harness.build.firmware import Firmware, Symbol
from tinyhil.harness.build.fit import check_fit
from tinyhil.harness.build.project import Program

__all__ = ["Firmware", "Program", "Symbol", "build", "check_fit", "firmware_id"]
