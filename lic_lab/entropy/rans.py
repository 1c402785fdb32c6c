"""CompressAI's rANS coder, fed symbol by symbol index of the Gaussian's tables."""

from __future__ import annotations

import torch
from compressai.ans import RansDecoder, RansEncoder
from torch import Tensor

from lic_lab.entropy.gaussian import Gaussian


class Encoder:
    """Collects the symbols of one image over all steps, then codes them in one call."""

    def __init__(self, gaussian: Gaussian):
        self._cdfs = gaussian.cdfs()
        self._symbols: list[Tensor] = []
        self._tables: list[Tensor] = []

    def add(self, symbols: Tensor, tables: Tensor) -> None:
        """Append integer `symbols` with the index of the table of each, both of the same shape."""
        self._symbols.append(symbols.flatten())
        self._tables.append(tables.flatten())

    def finish(self) -> bytes:
        """The stream."""
        tables, indexes = torch.cat(self._tables).unique(return_inverse=True)
        stream: bytes = RansEncoder().encode_with_indexes(
            torch.cat(self._symbols).tolist(), indexes.tolist(), *_used(self._cdfs, tables)
        )
        return stream


class Decoder:
    """Yields the symbols of one image, step by step."""

    def __init__(self, gaussian: Gaussian, stream: bytes, symbols: int):
        self._cdfs = gaussian.cdfs()
        self._decoder = RansDecoder()
        self._decoder.set_stream(bounded(stream, symbols))

    def next(self, tables: Tensor) -> Tensor:
        """The symbols coded with these table indices, as int32 of their shape."""
        used, indexes = tables.flatten().unique(return_inverse=True)
        symbols = self._decoder.decode_stream(indexes.tolist(), *_used(self._cdfs, used))
        return torch.tensor(symbols, dtype=torch.int32).reshape(tables.shape)


def bounded(stream: bytes, symbols: int) -> bytes:
    """`stream` with zeros behind it, so that decoding this many symbols never reads beyond the end, whatever it holds.

    CompressAI's decoder does not look where its string ends. Each symbol takes at most one 32-bit word for itself. An
    escape is followed by half bytes that are summed up to the number of its digits, half a byte each: a half byte of
    the string promises 15 more at most, so all escapes together read at most 15 times the string behind its end. Once
    the decoder reads zeros, nothing more is promised.
    """
    return stream + bytes(16 * len(stream) + 8 * symbols + 256)


def _used(
    cdfs: tuple[list[list[int]], list[int], list[int]], tables: Tensor
) -> tuple[list[list[int]], list[int], list[int]]:
    """The tables in use: the coder copies all it is given on each call, so it is given no others."""
    index = tables.tolist()
    return tuple([part[t] for t in index] for part in cdfs)  # type: ignore[return-value]
