"""The recorder: which blocks of a firmware ran in QEMU, how often, and with which cache misses."""

from tinyhil.harness.targets.recorder.build import build_recorder, build_twin_recorder, plugin_argument
from tinyhil.harness.targets.recorder.options import cache_models, data_regions, recorder_options
from tinyhil.harness.targets.recorder.trace import Block, CacheModel, Segment, Trace, parse, parse_text

__all__ = [
    "Block",
    "CacheModel",
    "Segment",
    "Trace",
    "build_recorder",
    "build_twin_recorder",
    "cache_models",
    "data_regions",
    "parse",
    "parse_text",
    "plugin_argument",
    "recorder_options",
]
