#!/usr/bin/env python3
"""Sends one reading to encke, as a line of text or as a binary frame. Standard library only.

    send_reading.py /run/encke/readings room/temperature 21.5
    send_reading.py --postcard /run/encke/readings room/door open
    send_reading.py --postcard - room/temperature 21.5 | encke        (kind = "stdin")

The place is the path of a datagram socket, that of

    [[source]]
    kind = "datagram"
    path = "/run/encke/readings"
    format = "postcard"        # only for --postcard; without it, lines of text

or - for standard output. VALUE is a number, true, false, null, or else a text. A frame is what a
small device sends that has no JSON: the functions below are all there is to it, and easily said in
C. The layout is documented at the head of src/source/frame.rs.
"""

import binascii
import json
import socket
import struct
import sys

NULL, BOOL, INT, FLOAT, TEXT, SINGLE = range(6)
FRAME_BYTES_MAX = 512


def varint(number):
    """Seven bits a byte, the lowest first; bit 7 says that more follow."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def text(value):
    """The length as a varint, then the bytes."""
    data = value.encode()
    return varint(len(data)) + data


def kind_and_value(value):
    """One byte that says what it is, and the value."""
    if value is None:
        return bytes([NULL])
    if isinstance(value, bool):
        return bytes([BOOL, value])
    if isinstance(value, int):
        zigzag = (value << 1) ^ (value >> 63)
        return bytes([INT]) + varint(zigzag & 0xFFFFFFFFFFFFFFFF)
    if isinstance(value, float):
        return bytes([FLOAT]) + struct.pack("<d", value)
    return bytes([TEXT]) + text(value)


def cobs(data):
    """Consistent Overhead Byte Stuffing: the same without zeros, at most one byte in 254 longer.

    Each block begins with one byte: how far it is to the next zero, which is left out.
    """
    out = bytearray()
    block = bytearray()
    for byte in data:
        if byte:
            block.append(byte)
        if not byte or len(block) == 254:
            out.append(len(block) + 1)
            out += block
            block.clear()
            is_full = byte != 0
        else:
            is_full = False
    if block or not data or not is_full:
        out.append(len(block) + 1)
        out += block
    return bytes(out)


def frame(topic, value):
    """A reading as a frame: record, CRC-32, COBS, zero."""
    record = text(topic) + kind_and_value(value)
    checked = record + struct.pack("<I", binascii.crc32(record))
    out = cobs(checked)
    if len(out) > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {len(out)} bytes; at most {FRAME_BYTES_MAX} are taken")
    return out + b"\0"


def line(topic, value):
    """A reading as a line."""
    return f"{topic} {json.dumps(value)}\n".encode()


def value_of(word):
    """What VALUE means: JSON of one word, or else a text."""
    try:
        value = json.loads(word)
    except ValueError:
        return word
    return word if isinstance(value, (list, dict)) else value


def main(words):
    write = line
    if words[:1] == ["--postcard"]:
        write = frame
        words = words[1:]
    if len(words) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    place, topic, word = words
    message = write(topic, value_of(word))
    if place == "-":
        sys.stdout.buffer.write(message)
        return 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        # Waits while the socket is full, so that nothing is lost.
        sender.sendto(message, place)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, ValueError) as error:
        sys.exit(f"send_reading.py: {error}")
