"""The wire between host and firmware: frames, messages, conversation. Pure; docs/wire.md."""

from tinyhil.harness.wire.conversation import Conversation, Crashed, Transport
from tinyhil.harness.wire.frames import MAX_PAYLOAD, Damaged, Decoder, Frame, Text, encode
from tinyhil.harness.wire.messages import CHUNK, SCHEMA, Fault, HelloAnswer, Memory, Overrun, Result

__all__ = [
    "CHUNK",
    "MAX_PAYLOAD",
    "SCHEMA",
    "Conversation",
    "Crashed",
    "Damaged",
    "Decoder",
    "Fault",
    "Frame",
    "HelloAnswer",
    "Memory",
    "Overrun",
    "Result",
    "Text",
    "Transport",
    "encode",
]
