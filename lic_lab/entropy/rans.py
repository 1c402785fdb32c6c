"""CompressAI's rANS coder, fed symbol by symbol table of the conditional distribution."""

from __future__ import annotations

import torch
from compressai.ans import RansDecoder, RansEncoder
from torch import Tensor

from lic_lab.entropy.gaussian import Gaussian


class Encoder:
    """Collects the symbols of one image over all steps, then codes them in one call."""

    def __init__(self, gaussian: Gaussian):
        self._gaussian = gaussian
        self._symbols: list[Tensor] = []
        self._tables: list[Tensor] = []

    def add(self, symbols: Tensor, tables: Tensor) -> None:
        """Append integer `symbols` and their `tables`: of the same shape, or with one more dimension."""
        self._symbols.append(symbols.flatten())
        self._tables.append(tables.flatten(0, symbols.dim() - 1))

    def finish(self) -> bytes:
        """The stream."""
        symbols = torch.cat(self._symbols)
        indexes, *cdfs = self._gaussian.cdfs(torch.cat(self._tables), symbols)
        stream: bytes = RansEncoder().encode_with_indexes(symbols.tolist(), indexes, *cdfs)
        return stream


class Decoder:
    """Yields the symbols of one image, step by step."""

    def __init__(self, gaussian: Gaussian, stream: bytes, symbols: int):
        self._gaussian = gaussian
        self._decoder = RansDecoder()
        self._decoder.set_stream(bounded(stream, symbols))

    def next(self, tables: Tensor, shape: torch.Size) -> Tensor:
        """The symbols coded with these tables, int32 of `shape`."""
        symbols = self._decoder.decode_stream(*self._gaussian.cdfs(tables.flatten(0, len(shape) - 1)))
        return torch.tensor(symbols, dtype=torch.int32).reshape(shape)


def bounded(stream: bytes, symbols: int) -> bytes:
    """`stream` with zeros behind it, so that decoding this many symbols never reads beyond the end, whatever it holds.

    CompressAI's decoder does not look where its string ends. Each symbol takes at most one 32-bit word for itself. An
    escape is followed by half bytes that are summed up to the number of its digits, half a byte each: a half byte of
    the string promises 15 more at most, so all escapes together read at most 15 times the string behind its end. Once
    the decoder reads zeros, nothing more is promised.
    """
    return stream + bytes(16 * len(stream) + 8 * symbols + 256)
