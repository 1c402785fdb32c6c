"""Where a picture's pixels lie on its latent: the sizes that encoder, decoder and every map of a latent agree on.

    picture H x W --resize--> coded size --g_a--> y of h x w positions --h_a--> z

Only what lies on the picture is coded: y has ceil(coded / stride) positions a side, and no more. (CompressAI's models
code multiples of several positions.)
"""

from __future__ import annotations

from dataclasses import dataclass

WHOLE = 4096  # units of the resize factor: a picture coded at its size has this scale


@dataclass(frozen=True)
class Geometry:
    """A picture, and the latent that holds it.

    Parameters
    ----------
    height, width : int
        Of the picture in pixels.
    stride : int
        Pixels of the coded picture to a position of the latent, along each side.
    scale : int
        Resize factor in 1/4096, 1 to 4096.
    multiple : int
        Positions of the latent come in multiples of this along each side: 1 for our codecs.

    Raises
    ------
    ValueError
        For a size, stride, scale or multiple out of range.

    >>> whole = Geometry(333, 517, 16)
    >>> whole.coded, whole.latent, whole.cell
    ((333, 517), (21, 33), (16.0, 16.0))
    >>> half = Geometry(333, 517, 16, scale=2048)
    >>> half.coded, half.latent
    ((167, 259), (11, 17))
    """

    height: int
    width: int
    stride: int
    scale: int = WHOLE
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a picture has {self.width} x {self.height} pixels; give at least one")
        if self.stride < 1 or self.multiple < 1:
            raise ValueError(f"stride is {self.stride} and multiple {self.multiple}; both are at least 1")
        if not 1 <= self.scale <= WHOLE:
            raise ValueError(f"scale is {self.scale}; it must be 1 to {WHOLE}, which is the picture's own size")

    @property
    def coded(self) -> tuple[int, int]:
        """Height and width of what is coded, in pixels; in integers, so that every machine rounds alike."""
        return self._scaled(self.height), self._scaled(self.width)

    @property
    def latent(self) -> tuple[int, int]:
        """Rows and columns of y."""
        rows, columns = (-(-n // self.multiple) * self.multiple for n in self.on_picture)
        return rows, columns

    @property
    def on_picture(self) -> tuple[int, int]:
        """Rows and columns of y that lie on the picture: all, where positions come one by one."""
        return -(-self.coded[0] // self.stride), -(-self.coded[1] // self.stride)

    @property
    def covered(self) -> tuple[int, int]:
        """Height and width in pixels of all positions of y together: what g_a is given and g_s returns."""
        return self.latent[0] * self.stride, self.latent[1] * self.stride

    @property
    def cell(self) -> tuple[float, float]:
        """Height and width of a position of y in pixels of the picture; the last ones reach beyond its edge."""
        return self.stride * self.height / self.coded[0], self.stride * self.width / self.coded[1]

    def _scaled(self, side: int) -> int:
        return max(1, (self.scale * side + WHOLE // 2) // WHOLE)
