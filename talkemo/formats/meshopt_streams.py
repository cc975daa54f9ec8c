"""The three kinds of streams of EXT_meshopt_compression, appendix A.

Every function raises ValueError for a stream that ends early.
"""

from __future__ import annotations

from collections import deque

import numpy as np

EARLY_END = "compressed data that end early"
GROUP = 16  # elements whose differences are stored together
# How often each byte contains a field with all bits set, of 2 and of 4 bits: such a difference is
# stored as a byte of its own.
ESCAPES = {
    bits: [
        sum((byte >> shift) & ((1 << bits) - 1) == (1 << bits) - 1 for shift in range(0, 8, bits))
        for byte in range(256)
    ]
    for bits in (2, 4)
}


def decode_attributes(data: bytes, count: int, stride: int) -> np.ndarray:
    """Return `count` elements of `stride` bytes (count · stride,) uint8 of mode 0."""
    if not count:
        return np.zeros(0, np.uint8)
    kinds, places = _groups(data, count, stride)
    content = np.frombuffer(data, np.uint8)
    differences = np.zeros((*kinds.shape, GROUP), np.uint8)
    for kind, bits in ((1, 2), (2, 4)):
        rows = places[kinds == kind]
        fields = content[rows[:, None] + np.arange(GROUP * bits // 8)]
        shifts = np.arange(8 - bits, -1, -bits)
        values = ((fields[..., None] >> shifts) & ((1 << bits) - 1)).reshape(-1, GROUP)
        escaped = values == (1 << bits) - 1
        behind = rows[:, None] + GROUP * bits // 8 + np.cumsum(escaped, axis=1) - 1
        differences[kinds == kind] = np.where(escaped, content[behind], values)
    differences[kinds == 3] = content[places[kinds == 3][:, None] + np.arange(GROUP)]
    signed = (differences >> 1) ^ (0 - (differences & 1)).astype(np.uint8)
    signed = signed.reshape(stride, -1)[:, :count]
    elements = np.cumsum(signed, axis=1, dtype=np.uint8) + content[-stride:, None]
    return np.ascontiguousarray(elements.T).reshape(-1)


def _groups(data: bytes, count: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """The kind of each group and where it begins, (stride, groups), for each byte of an element."""
    total = -(-count // GROUP)
    kinds, places = np.zeros((stride, total), np.uint8), np.zeros((stride, total), np.int64)
    at, end = 1, len(data) - max(stride, 32)
    in_block = min((8192 // stride) & ~15, 256) // GROUP
    for first in range(0, total, in_block):
        groups = min(in_block, total - first)
        for k in range(stride):
            header = data[at : at + -(-groups // 4)]
            at += len(header)
            if at > end:
                raise ValueError(EARLY_END)
            block_kinds = [header[g >> 2] >> 2 * (g & 3) & 3 for g in range(groups)]
            block_places = []
            for kind in block_kinds:
                block_places.append(at)
                if kind == 3:
                    at += GROUP
                elif kind:
                    size = 4 * kind
                    escapes = ESCAPES[2 * kind]
                    at += size + sum([escapes[byte] for byte in data[at : at + size]])
            if at > end:
                raise ValueError(EARLY_END)
            kinds[k, first : first + groups] = block_kinds
            places[k, first : first + groups] = block_places
    return kinds, places


def decode_triangles(data: bytes, count: int) -> np.ndarray:
    """Return the `count` indices (count,) uint32 of mode 1."""
    decoder = _TriangleDecoder(data, count // 3)
    corners = [decoder.triangle(code) for code in data[1 : 1 + count // 3]]
    return np.array(corners, np.int64).astype(np.uint32).reshape(-1)


class _TriangleDecoder:
    """Decodes triangles one by one; each may share an edge or a vertex with the latest ones."""

    def __init__(self, data: bytes, triangles: int):
        self.table = data[-16:]
        self.integers = _Integers(data[1 + triangles : -16])
        self.new, self.last = 0, 0  # the next new vertex, the latest one that was named
        # The latest comes first.
        self.edges: deque[tuple[int, int]] = deque([(0, 0)] * 16, 16)
        self.recent: deque[int] = deque([0] * 16, 16)

    def triangle(self, code: int) -> tuple[int, int, int]:
        """Return the next triangle."""
        high, low = code >> 4, code & 15
        if high == 15:
            return self._separate(low)
        a, b = self.edges[high]
        if 0 < low < 13:
            c = self.recent[low]
        else:
            if low in (13, 14):
                self.last += 1 if low == 14 else -1
                c = self.last
            else:
                c = self._vertex(low)
            self.recent.appendleft(c)
        self.edges.extendleft([(c, b), (a, c)])
        return a, b, c

    def _separate(self, low: int) -> tuple[int, int, int]:
        """A triangle whose vertices are named one by one."""
        kinds = self.table[low] if low < 14 else self.integers.byte()
        if low >= 14 and not kinds:
            self.new = 0
        second, third = kinds >> 4, kinds & 15
        a = self._vertex(15 if low == 15 else 0)
        b, c = self._vertex(second), self._vertex(third)
        self.edges.extendleft([(b, a), (c, b), (a, c)])
        self.recent.appendleft(a)
        if second in (0, 15):
            self.recent.appendleft(b)
        if third in (0, 15):
            self.recent.appendleft(c)
        return a, b, c

    def _vertex(self, kind: int) -> int:
        """A vertex: 0 is the next new one, 15 one that the data name, others are recent ones."""
        if kind == 0:
            self.new += 1
            return self.new - 1
        if kind < 15:
            return self.recent[kind - 1]
        value = self.integers.next()
        self.last += (value >> 1) ^ -(value & 1)
        return self.last


class _Integers:
    """Reads integers of 7 bits a byte, the lowest first."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def byte(self) -> int:
        """Return the next byte."""
        if self.at >= len(self.data):
            raise ValueError(EARLY_END)
        self.at += 1
        return self.data[self.at - 1]

    def next(self) -> int:
        """Return the next integer."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                break
        return value & 0xFFFFFFFF


def decode_indices(data: bytes, count: int) -> np.ndarray:
    """Return the `count` indices (count,) uint32 of mode 2."""
    integers, last, indices = _Integers(data[1:-4]), [0, 0], []
    for _ in range(count):
        value = integers.next()
        last[value & 1] += (value >> 2) ^ -((value >> 1) & 1)
        indices.append(last[value & 1])
    return np.array(indices, np.int64).astype(np.uint32)
