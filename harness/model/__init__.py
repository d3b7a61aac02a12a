"""The int8 network: graph, TFLite reader and writer, TFLM's integer arithmetic, reference interpreter."""

from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.oracle import reference_for
from tinyhil.harness.model.reference import Interpreter
from tinyhil.harness.model.tflite_reader import load_tflite, read_tflite
from tinyhil.harness.model.tflite_writer import write_tflite

__all__ = ["Graph", "Interpreter", "load_tflite", "read_tflite", "reference_for", "write_tflite"]
