"""Detectors: a YOLOv2 head on an architecture of the family, trained, quantised, judged and measured."""
