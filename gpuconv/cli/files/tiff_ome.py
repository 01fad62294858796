"""What OME-XML says of a picture: sizes of pixels, what channels are, and words about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["read_ome"]

_OTHERS = "other OME metadata"
# Attributes that are kept, and those that say how pixels are stored.
_SIZES = ("PhysicalSize", "TimeIncrement")
_OF_CHANNELS = {"Name", "AcquisitionMode", "Color", "ContrastMethod", "EmissionWavelength"}
_OF_CHANNELS |= {"EmissionWavelengthUnit", "ExcitationWavelength", "ExcitationWavelengthUnit"}
_OF_CHANNELS |= {"Fluor", "IlluminationType", "NDFilter", "PinholeSize", "PinholeSizeUnit"}
_OF_CHANNELS |= {"PockelCellSetting"}
_STORED = {"ID", "DimensionOrder", "Type", "Interleaved", "BigEndian", "SignificantBits"}
_STORED |= {"SamplesPerPixel", *(f"Size{letter}" for letter in "XYZCT")}
_TEXTS = ("AcquisitionDate", "Description")


def read_ome(xml: str | None, number: int, count: int) -> tuple[dict[str, Any], list[str]]:
    """Return what is kept of the picture of this number among `count`, and what else there is."""
    from xml.etree import ElementTree

    # No entities are defined in what is parsed, so that none can grow.
    if not xml or "<!ENTITY" in xml or "<!DOCTYPE" in xml:
        return {}, ["OME metadata"] if xml else []
    root = ElementTree.fromstring(xml)
    images = [one for one in root if _name(one) == "Image"]
    if len(images) != count:  # of files that belong together, or of pictures that are not there
        images, number = images[:1] if len(images) == 1 else [], 0
    pixels = _find(images[number], "Pixels") if images else []
    if not pixels:
        return {}, ["OME metadata"]
    image, one = images[number], pixels[0]
    channels = _find(one, "Channel")
    found: dict[str, Any] = {
        name: value if name.endswith("Unit") else float(value)
        for name, value in one.attrib.items()
        if name.startswith(_SIZES)
    }
    if image.attrib.get("Name", f"Image{number}") != f"Image{number}":  # the name of one without
        found["Name"] = image.attrib["Name"]
    found |= {text: each.text for text in _TEXTS for each in _find(image, text) if each.text}
    described, more = _read_channels(channels)
    if described:
        found["Channel"] = described
    beside = {_name(each) for each in root} - {"Image"}
    beside |= {_name(each) for each in image} - {"Pixels", *_TEXTS}
    beside |= {_name(each) for each in one} - {"Channel", "TiffData"}
    beside |= image.attrib.keys() - {"ID", "Name"}
    beside |= {name for name in one.attrib if not name.startswith(_SIZES)} - _STORED
    return found, [_OTHERS] if beside or more else []


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _find(element: Element, name: str) -> list[Element]:
    return [each for each in element if _name(each) == name]


def _read_channels(channels: list[Element]) -> tuple[dict[str, list[str]], bool]:
    """Return lists of what channels say, and whether there is more."""
    said = [
        {name: value for name, value in one.attrib.items() if name not in _STORED}
        for one in channels
    ]
    names = {name for one in said for name in one}
    kept = {name for name in names & _OF_CHANNELS if all(name in one for one in said)}
    described = {name: [one[name] for one in said] for name in sorted(kept)}
    if "Name" in names:
        described["Name"] = [one.get("Name", "") for one in said]
    # An empty path of light is written beside every channel.
    inside = any(_name(each) != "LightPath" or len(each) for one in channels for each in one)
    return described, inside or bool(names - described.keys())
