"""The int8 network: graph, TFLite reader and writer, TFLM's integer arithmetic, reference interpreter."""

from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.tflite_reader import load_tflite, read_tflite

__all__ = ["Graph", "load_tflite", "read_tflite"]
