"""The photographs that come inside scikit-image's wheel: none of them is downloaded."""

from __future__ import annotations

from pathlib import Path

FILES = {  # those of at least 0.13 megapixels that are photographs and in colour
    "Astronaut": "astronaut.png",
    "Chelsea the cat": "chelsea.png",
    "Coffee": "coffee.png",
    "Hubble deep field": "hubble_deep_field.jpg",
    "Motorcycle, left view": "motorcycle_left.png",
    "Motorcycle, right view": "motorcycle_right.png",
    "Retina": "retina.jpg",
    "Rocket": "rocket.jpg",
    "Tissue, stained": "ihc.png",
    "Camera man (grey)": "camera.png",
}


def photographs() -> dict[str, Path]:
    """Title and file of each photograph that is there."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return {title: folder / name for title, name in FILES.items() if (folder / name).is_file()}
