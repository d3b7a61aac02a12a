"""The int8 network: graph, TFLite files, reference interpreter. No board, no engine."""
