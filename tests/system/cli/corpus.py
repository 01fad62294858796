"""Files of every kind that Pillow, tifffile and others write, with what each of them means."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HEIGHT, WIDTH = 11, 14


@dataclass(frozen=True)
class Meaning:
    """What a file shows: (pages, rows, columns, channels) in float64, alpha from 0 to 1."""

    pixels: np.ndarray
    dtype: str
    alpha: np.ndarray | None = None
    levels: float = 0  # by how many levels conversions of colours may differ


@dataclass(frozen=True)
class Case:
    """A file: how it is written and what it means. `refused`: what the one error says."""

    name: str
    suffix: str
    write: Callable[[Path], Meaning]
    refused: str | None = None

    def __str__(self):
        return f"{self.name}{self.suffix}"


def rng_of(name):
    return np.random.default_rng(list(name.encode()))


def numbers(rng, dtype, *shape):
    """Random numbers over much of a dtype's range."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = max(int(info.min) // 2, -(1 << 40)), min(int(info.max), 1 << 40)
        return rng.integers(low, high, shape, endpoint=True).astype(dtype)
    return (rng.standard_normal(shape) * 50).astype(dtype)


def gray(x, dtype=None, **more):
    """The meaning of grey levels, (rows, columns) or (pages, rows, columns)."""
    x = np.asarray(x)
    pages = x.reshape(-1, *x.shape[-2:])
    return Meaning(pages[..., None].astype(np.float64), str(dtype or x.dtype), **more)


def colours(x, dtype=None, **more):
    """The meaning of (..., rows, columns, channels) without alpha."""
    x = np.asarray(x)
    return Meaning(
        x.reshape(-1, *x.shape[-3:]).astype(np.float64), str(dtype or x.dtype.name), **more
    )


def with_alpha(x, premultiplied=False):
    """The meaning of (..., rows, columns, channels) whose last channel is alpha."""
    x = np.asarray(x)
    whole = x.reshape(-1, *x.shape[-3:]).astype(np.float64)
    alpha = whole[..., -1:] / (np.iinfo(x.dtype).max if x.dtype.kind in "iu" else 1)
    plain = whole[..., :-1]
    if premultiplied:
        plain = np.where(alpha > 0, plain / np.where(alpha > 0, alpha, 1), 0)
    return Meaning(plain, x.dtype.name, alpha)


# TIFF


def tiff(name, make, refused=None, **keywords):
    """A file of tifffile; `make` is given a random generator and returns pixels and meaning."""

    def write(path):
        import tifffile

        pixels, meaning = make(rng_of(name))
        tifffile.imwrite(path, pixels, **keywords)
        return meaning

    return Case(name, ".tif", write, refused)


def tiff_numbers():
    for dtype in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"):
        for order in "<>":

            def make(rng, dtype=dtype):
                x = numbers(rng, dtype, HEIGHT, WIDTH)
                return x, gray(x, x.dtype.name)

            yield tiff(f"gray-{dtype}-{'little' if order == '<' else 'big'}", make,
                       byteorder=order, photometric="minisblack")  # fmt: skip


def tiff_compressed():
    packers = ["zlib", "lzw", "packbits", "zstd", "lzma", "lerc", "png"]
    layouts = {"strips": dict(rowsperstrip=4), "tiles": dict(tile=(16, 16))}
    for packer in packers:
        for kind in ("gray", "rgb"):
            for layout, how in layouts.items():

                def make(rng, kind=kind):
                    x = numbers(rng, "u1", HEIGHT, WIDTH, *((3,) if kind == "rgb" else ()))
                    return x, (colours if kind == "rgb" else gray)(x)

                yield tiff(
                    f"{packer}-{kind}-{layout}", make, compression=packer,
                    photometric="rgb" if kind == "rgb" else "minisblack", **how,
                )  # fmt: skip
    for dtype in ("u1", "u2", "f4"):

        def make(rng, dtype=dtype):
            x = numbers(rng, dtype, HEIGHT, WIDTH)
            return x, gray(x)

        yield tiff(f"predictor-{dtype}", make, compression="zlib", predictor=True,
                   photometric="minisblack")  # fmt: skip


def tiff_bits():
    for bits in (1, 2, 3, 4, 6):
        for white in (False, True):
            top = (1 << bits) - 1

            def make(rng, bits=bits, white=white, top=top):
                x = rng.integers(0, top + 1, (HEIGHT, WIDTH)).astype(bool if bits == 1 else "u1")
                shown = np.rint((top - x.astype("u1") if white else x) * (255 / top))
                return x, gray(shown, "uint8")

            more = {} if bits == 1 else dict(bitspersample=bits)
            yield tiff(f"bits-{bits}-{'white' if white else 'black'}", make,
                       photometric="miniswhite" if white else "minisblack", **more)  # fmt: skip
    for dtype in ("u1", "u2"):

        def make(rng, dtype=dtype):
            x = numbers(rng, dtype, HEIGHT, WIDTH)
            return x, gray(np.iinfo(dtype).max - x)

        yield tiff(f"white-{dtype}", make, photometric="miniswhite")


def tiff_palettes():
    for order in "<>":
        for deep in (False, True):

            def write(path, order=order, deep=deep):
                import tifffile

                rng = rng_of("palette")
                x = numbers(rng, "u1", HEIGHT, WIDTH)
                table = rng.integers(0, 65536 if deep else 256, (3, 256)).astype("u2")
                table = table if deep else table * 257
                tifffile.imwrite(path, x, photometric="palette", colormap=table, byteorder=order)
                return colours(table.T[x] if deep else (table.T[x] >> 8).astype("u1"))

            bits, name = 16 if deep else 8, "little" if order == "<" else "big"
            yield Case(f"palette-{bits}-{name}", ".tif", write)

    for bits in (1, 4):

        def narrow(path, bits=bits):
            import tifffile

            rng = rng_of("palette")
            x = rng.integers(0, 1 << bits, (HEIGHT, WIDTH)).astype("u1")
            table = rng.integers(0, 256, (3, 1 << bits)).astype("u2") * 257
            tag = (320, 3, table.size, tuple(table.ravel().tolist()), True)
            more = {} if bits == 1 else dict(bitspersample=bits)
            tifffile.imwrite(path, x > 0 if bits == 1 else x, photometric="minisblack",
                             extratags=[tag], **more)  # fmt: skip
            with tifffile.TiffFile(path, mode="r+") as file:
                file.pages[0].tags[262].overwrite(3)
            return colours((table.T[x] >> 8).astype("u1"))

        yield Case(f"palette-{bits}", ".tif", narrow)


def tiff_colours():
    for dtype in ("u1", "u2", "f4"):
        for planar in ("contig", "separate"):
            for pages in (1, 3):
                for extra in (None, "unassalpha", "assocalpha"):
                    yield _colour_tiff(dtype, planar, pages, extra)
    for extra in ("unassalpha", "assocalpha"):
        for dtype in ("u1", "u2"):

            def make(rng, dtype=dtype, extra=extra):
                x = _alpha_numbers(rng, dtype, (HEIGHT, WIDTH, 2), extra)
                return x, with_alpha(x, extra == "assocalpha")

            yield tiff(f"gray-{extra}-{dtype}", make, photometric="minisblack",
                       planarconfig="contig", extrasamples=[extra])  # fmt: skip


def _alpha_numbers(rng, dtype, shape, extra):
    x = np.abs(numbers(rng, dtype, *shape))
    if np.dtype(dtype).kind == "f":
        x = x / x.max()
    whole = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1
    x[..., -1][rng.random(x.shape[:-1]) < 0.2] = 0
    x[..., -1][rng.random(x.shape[:-1]) < 0.2] = whole
    if extra == "assocalpha":
        x[..., :-1] = np.minimum(x[..., :-1], x[..., -1:])
    return x.astype(dtype)


def _colour_tiff(dtype, planar, pages, extra):
    stack = () if pages == 1 else (pages,)

    def make(rng):
        if extra is None:
            x = numbers(rng, dtype, *stack, HEIGHT, WIDTH, 3)
            meaning = colours(x)
        else:
            x = _alpha_numbers(rng, dtype, (*stack, HEIGHT, WIDTH, 4), extra)
            meaning = with_alpha(x, extra == "assocalpha")
        return (np.moveaxis(x, -1, -3) if planar == "separate" else x), meaning

    more = {} if extra is None else dict(extrasamples=[extra])
    return tiff(f"rgb-{dtype}-{planar}-{pages}-{extra}", make, photometric="rgb",
                planarconfig=planar, **more)  # fmt: skip


def tiff_bands():
    for count in (3, 5, 6):
        for planar in ("contig", "separate"):

            def make(rng, count=count, planar=planar):
                x = numbers(rng, "u2", HEIGHT, WIDTH, count)
                return (np.moveaxis(x, -1, 0) if planar == "separate" else x), colours(x)

            yield tiff(f"bands-{count}-{planar}", make, photometric="minisblack",
                       planarconfig=planar)  # fmt: skip

    def narrow(rng):  # pages of three columns, not colours
        x = numbers(rng, "u1", 5, HEIGHT, 3)
        return x, gray(x)

    yield tiff("pages-3-columns", narrow, photometric="minisblack")
    yield tiff("pages-3-columns-plain", narrow, photometric="minisblack", metadata=None)


def tiff_inks():
    def cmyk(rng, dtype="u1"):
        x = numbers(rng, dtype, HEIGHT, WIDTH, 4)
        top = np.iinfo(dtype).max
        part = x / top
        return x, colours((1 - part[..., :3]) * (1 - part[..., 3:]) * top, dtype, levels=0.6)

    yield tiff("cmyk-8", lambda rng: cmyk(rng, "uint8"), photometric="separated")
    yield tiff("cmyk-16", lambda rng: cmyk(rng, "uint16"), photometric="separated")
    yield tiff("cmyk-planar", lambda rng: (lambda x, m: (np.moveaxis(x, -1, 0), m))(
        *cmyk(rng, "uint8")), photometric="separated", planarconfig="separate")  # fmt: skip

    def lab(path):
        import tifffile
        from PIL import Image

        rng = rng_of("lab")
        x = np.stack([rng.integers(120, 180, (HEIGHT, WIDTH)),
                      *(rng.integers(-25, 25, (HEIGHT, WIDTH)) for _ in "ab")], -1)  # fmt: skip
        tifffile.imwrite(path, x.astype(np.int8).view(np.uint8), photometric="cielab")
        with Image.open(path) as picture:
            return colours(np.asarray(picture.convert("RGB")), levels=3)

    yield Case("cielab", ".tif", lab)


def tiff_orientations():
    for number in range(1, 9):
        for kind in ("gray", "rgb", "tiles"):

            def make(rng, number=number, kind=kind):
                x = numbers(rng, "u1", HEIGHT, WIDTH, *((3,) if kind == "rgb" else ()))
                return x, (colours if kind == "rgb" else gray)(upright(x, number))

            more = dict(tile=(16, 16), compression="zlib") if kind == "tiles" else {}
            yield tiff(f"orientation-{number}-{kind}", make, extratags=[(274, 3, 1, number, True)],
                       photometric="rgb" if kind == "rgb" else "minisblack", **more)  # fmt: skip


def upright(x, orientation):
    """The picture that is shown of stored rows and columns."""
    turns = {
        2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1), 6: lambda x: np.rot90(x, -1),
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1), 8: np.rot90,
    }  # fmt: skip
    return turns.get(orientation, lambda x: x)(x)


def tiff_axes():
    for axes in ("YX", "ZYX", "TCYX", "TCZYX"):
        shape = dict(T=2, C=3, Z=2, Y=HEIGHT, X=WIDTH)

        def make(rng, axes=axes, shape=shape):
            x = numbers(rng, "u2", *(shape[letter] for letter in axes))
            return x, gray(x)

        yield tiff(f"ome-{axes}", make, ome=True, metadata={"axes": axes},
                   photometric="minisblack")  # fmt: skip
        yield tiff(f"shaped-{axes}", make, metadata={"axes": axes}, photometric="minisblack")
        if axes in ("YX", "ZYX"):
            yield tiff(f"imagej-{axes}", make, imagej=True, metadata={"axes": axes})

    def rgb(rng):
        x = numbers(rng, "u1", 2, HEIGHT, WIDTH, 3)
        return x, colours(x)

    yield tiff("ome-rgb", rgb, ome=True, metadata={"axes": "ZYXS"}, photometric="rgb")
    yield tiff("imagej-rgb", rgb, imagej=True, metadata={"axes": "ZYXS"})
    yield tiff("named-c", lambda rng: (lambda x: (x, colours(x)))(
        numbers(rng, "u1", HEIGHT, WIDTH, 3)), photometric="rgb", metadata={"axes": "YXC"},
    )  # fmt: skip
    yield tiff("big", lambda rng: (lambda x: (x, gray(x)))(numbers(rng, "u1", HEIGHT, WIDTH)),
               bigtiff=True, photometric="minisblack")  # fmt: skip


def tiff_files():
    """Files of several pictures."""

    def mixed(path):
        import tifffile

        rng = rng_of("mixed")
        with tifffile.TiffWriter(path) as file:
            file.write(numbers(rng, "u1", HEIGHT, WIDTH), metadata=None)
            file.write(numbers(rng, "u1", WIDTH, HEIGHT, 3), metadata=None, photometric="rgb")
        return None

    yield Case("mixed", ".tif", mixed, "pick one with --page 0 to 1")

    def palettes(path):
        import tifffile

        rng = rng_of("palettes")
        with tifffile.TiffWriter(path) as file:
            for _ in range(2):
                file.write(numbers(rng, "u1", HEIGHT, WIDTH), metadata=None, photometric="palette",
                           colormap=rng.integers(0, 65536, (3, 256)).astype("u2"))  # fmt: skip
        return None

    yield Case("palettes", ".tif", palettes, "--page")

    def pyramid(path):
        import tifffile

        rng = rng_of("pyramid")
        x = numbers(rng, "u1", 64, 64)
        with tifffile.TiffWriter(path) as file:
            file.write(x, subifds=1, photometric="minisblack")
            file.write(x[::2, ::2], subfiletype=1, photometric="minisblack")
        return gray(x)

    yield Case("pyramid", ".tif", pyramid)

    def jpeg(path):
        import tifffile
        from PIL import Image

        x = numbers(rng_of("jpeg"), "u1", 16, 16, 3)
        tifffile.imwrite(path, x, photometric="ycbcr", compression="jpeg")
        return colours(np.asarray(Image.open(path).convert("RGB")), levels=2)

    yield Case("ycbcr-jpeg", ".tif", jpeg)

    def ycbcr(path):
        from PIL import Image

        picture = Image.fromarray(numbers(rng_of("ycbcr"), "u1", HEIGHT, WIDTH, 3))
        picture = picture.convert("YCbCr")
        picture.save(path)
        return colours(np.asarray(picture.convert("RGB")), levels=1.1)

    yield Case("ycbcr", ".tif", ycbcr)

    def nodata(path):
        import tifffile

        x = numbers(rng_of("nodata"), "u1", HEIGHT, WIDTH)
        with_alpha = np.stack([x, x], axis=-1)
        more = dict(photometric="minisblack", extrasamples=["unassalpha"])
        tifffile.imwrite(path, with_alpha, extratags=[(42113, 2, 0, "7", True)], **more)
        return None

    yield Case("cfa", ".tif", _photometric(32803), "photometric interpretation 32803")
    yield Case("nodata", ".tif", nodata, "nodata")


def _photometric(number):
    def write(path):
        import tifffile

        tifffile.imwrite(path, np.ones((HEIGHT, WIDTH), "u1"), photometric="minisblack")
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages[0].tags[262].overwrite(number)
        return None

    return write


def tiff_of_pillow():
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I", "F", "I;16"):
        for packer in (None, "tiff_lzw", "packbits", "tiff_adobe_deflate"):
            yield _pillow(f"pillow-{mode.replace(';', '')}-{packer}", mode, ".tif",
                          compression=packer)  # fmt: skip
    yield _pillow("group4", "1", ".tif", compression="group4")
    yield _pillow("group3", "1", ".tif", compression="group3")


# Pillow's other formats


def picture_of(rng, mode):
    """A random picture of a mode."""
    from PIL import Image

    if mode == "I;16":
        return Image.fromarray(numbers(rng, "u2", HEIGHT, WIDTH))
    if mode == "I":
        return Image.fromarray(numbers(rng, "i4", HEIGHT, WIDTH) // 4)
    if mode == "F":
        return Image.fromarray(numbers(rng, "f4", HEIGHT, WIDTH))
    x = numbers(rng, "u1", HEIGHT, WIDTH, 4)
    x[..., 3][rng.random((HEIGHT, WIDTH)) < 0.3] = 255
    rgba = Image.fromarray(x)
    if mode in ("RGBA", "LA"):
        return rgba.convert(mode)
    return rgba.convert("RGB").convert(mode)


def meaning_of(path, page=0, **more):
    """What Pillow shows of a file it opens."""
    from PIL import Image

    with Image.open(path) as picture:
        picture.seek(page)
        picture.load()
        if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
            x = np.asarray(picture)
            deep = picture.mode.startswith("I;16") or path.suffix == ".pgm"
            return gray(x, "uint16" if deep else x.dtype, **more)
        if picture.has_transparency_data:
            kind = "LA" if picture.mode in ("1", "L", "LA") else "RGBA"
            return with_alpha(np.asarray(picture.convert(kind)))
        if picture.mode in ("1", "L") or "mode-L" in path.name:
            return gray(np.asarray(picture.convert("L")), **more)
        return colours(np.asarray(picture.convert("RGB")), **more)


def _pillow(name, mode, suffix, **keywords):
    def write(path):
        picture = picture_of(rng_of(name), mode)
        options = {key: value for key, value in keywords.items() if value is not None}
        picture.save(path, **options)
        levels = 1.6 if mode == "CMYK" else 0
        return meaning_of(path, levels=levels)

    return Case(name, suffix, write)


def pictures():
    modes = {
        ".png": ("1", "L", "P", "LA", "RGB", "RGBA", "I;16"),
        ".bmp": ("1", "L", "P", "RGB"),
        ".gif": ("1", "L", "P", "RGB"),
        ".webp": ("RGB", "RGBA"),
        ".jp2": ("L", "LA", "RGB", "RGBA", "I;16"),
        ".tga": ("1", "L", "P", "LA", "RGB", "RGBA"),
        ".avif": ("RGB", "RGBA"),
        ".pcx": ("1", "L", "P", "RGB"),
        ".sgi": ("L", "RGB", "RGBA"),
        ".qoi": ("RGB", "RGBA"),
        ".dib": ("1", "L", "P", "RGB"),
        ".msp": ("1",),
        ".xbm": ("1",),
        ".pbm": ("1",),
        ".pgm": ("L", "I;16"),
        ".ppm": ("RGB",),
        ".pfm": ("F",),
        ".jpg": ("L", "RGB", "CMYK"),
    }
    for suffix, kept in modes.items():
        for mode in kept:
            yield _pillow(f"mode-{mode.replace(';', '')}", mode, suffix)
    yield _turned_by_xmp()
    yield _pillow("lossless", "RGB", ".webp", lossless=True)
    yield _pillow("lossless-alpha", "RGBA", ".webp", lossless=True, exact=True)
    yield _pillow("progressive", "RGB", ".jpg", progressive=True, quality=40)
    yield _pillow("rle", "RGB", ".tga", compression="tga_rle")
    for sampling in ("4:4:4", "4:2:2", "4:2:0"):
        yield _pillow(f"sampling-{sampling.replace(':', '')}", "RGB", ".jpg", subsampling=sampling)
    for bits in (1, 2, 4):
        yield _few_colours(bits)
    for orientation in range(1, 9):
        yield _turned(orientation, ".jpg")
        yield _turned(orientation, ".png")
    for suffix, mode, clear in ((".png", "L", 77), (".png", "RGB", (1, 2, 3)), (".gif", "P", 3)):
        yield _with_colour_key(suffix, mode, clear)
    yield from _deep_pictures()


def _few_colours(bits):
    def write(path):
        from PIL import Image

        picture = picture_of(rng_of("few"), "RGB").quantize(1 << bits)
        picture.save(path, bits=bits)
        with Image.open(path) as stored:
            return colours(np.asarray(stored.convert("RGB")))

    return Case(f"palette-{bits}", ".png", write)


def _turned(orientation, suffix):
    from PIL import Image

    def write(path):
        x = numbers(rng_of("turned"), "u1", HEIGHT, WIDTH, 3)
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(x).save(path, exif=exif)
        stored = np.asarray(Image.open(path))
        return colours(upright(stored, orientation))

    return Case(f"exif-{orientation}", suffix, write)


def _turned_by_xmp():
    def write(path):
        from PIL import Image, PngImagePlugin

        x = numbers(rng_of("xmp"), "u1", HEIGHT, WIDTH, 3)
        text = PngImagePlugin.PngInfo()
        about = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="8"/></x:xmpmeta>'
        text.add_itxt("XML:com.adobe.xmp", about)
        Image.fromarray(x).save(path, pnginfo=text)
        return colours(upright(x, 8))

    return Case("xmp-8", ".png", write)


def _with_colour_key(suffix, mode, clear):
    def write(path):
        from PIL import Image

        x = np.asarray(picture_of(rng_of("key"), mode)).copy()
        x[2:5, 3:9] = clear
        picture = Image.fromarray(x)
        if mode == "P":
            picture.putpalette(list(range(256)) * 3)
        picture.save(path, transparency=clear)
        return meaning_of(path)

    return Case(f"key-{mode}", suffix, write)


def _deep_pictures():
    def deep(path, count, codec):
        import imagecodecs

        x = numbers(rng_of(f"deep{count}"), "u2", HEIGHT, WIDTH, count)
        if codec == "png":
            path.write_bytes(imagecodecs.png_encode(x))
        else:
            path.write_bytes(imagecodecs.jpeg2k_encode(x, level=0, codecformat="jp2"))
        return with_alpha(x) if count in (2, 4) else colours(x)

    for count in (2, 3, 4):
        yield Case(f"deep-{count}", ".png", lambda path, n=count: deep(path, n, "png"))
    yield Case("deep-3", ".jp2", lambda path: deep(path, 3, "jp2"))

    def ppm(path):
        x = numbers(rng_of("ppm"), ">u2", HEIGHT, WIDTH, 3)
        path.write_bytes(f"P6\n{WIDTH} {HEIGHT}\n65535\n".encode() + x.tobytes())
        return colours(x, "uint16")

    def plain(path):
        path.write_text(f"P3 {WIDTH} {HEIGHT}\n65535\n" + "7 " * (3 * WIDTH * HEIGHT))
        return None

    yield Case("deep-3", ".ppm", ppm)
    yield Case("plain-3", ".ppm", plain, "16 bits a colour in a plain PPM")


def animations():
    for suffix in (".png", ".gif", ".webp", ".tif"):

        def write(path):
            from PIL import Image

            rng = rng_of("animation")
            frames = [Image.fromarray(numbers(rng, "u1", HEIGHT, WIDTH, 3)) for _ in range(3)]
            more = dict(lossless=True) if path.suffix == ".webp" else {}
            frames[0].save(path, save_all=True, append_images=frames[1:], **more)
            shown = [meaning_of(path, page).pixels for page in range(3)]
            return Meaning(np.concatenate(shown), "uint8")

        yield Case("animation", suffix, write)


# Arrays


def arrays():
    for dtype in ("u1", "u2", "i4", "i8", "f2", "f4", "f8", ">f4", "b1"):
        for suffix in (".npy", ".npz", ".zarr"):
            if dtype == ">f4" and suffix == ".zarr":
                continue

            def write(path, dtype=dtype):
                x = numbers(rng_of(dtype), dtype, 2, HEIGHT, WIDTH)
                save_array(path, x)
                return gray(x, x.dtype.name)

            yield Case(f"array-{dtype.replace('>', 'big-')}", suffix, write)
    for suffix in (".npy", ".zarr"):

        def rgb(path):
            x = numbers(rng_of("array"), "u1", HEIGHT, WIDTH, 3)
            save_array(path, x)
            return colours(x)

        yield Case("array-rgb", suffix, rgb)

    def fortran(path):
        x = np.asfortranarray(numbers(rng_of("fortran"), "f4", HEIGHT, WIDTH))
        np.save(path, x)
        return gray(x)

    yield Case("fortran", ".npy", fortran)
    for form in (2, 3):

        def group(path, form=form):
            import zarr

            x = numbers(rng_of("group"), "u2", 2, HEIGHT, WIDTH)
            zarr.open_group(str(path), mode="w", zarr_format=form).create_array("inner", data=x)
            return gray(x)

        yield Case(f"group-{form}", ".zarr", group)
    for dtype in ("u1", "i2", "u2", "i4", "f4", "f8"):

        def fits(path, dtype=dtype):
            from astropy.io import fits

            x = numbers(rng_of("fits" + dtype), dtype, HEIGHT, WIDTH)
            fits.PrimaryHDU(x).writeto(path)
            return gray(x)

        yield Case(f"fits-{dtype}", ".fits", fits)


def save_array(path, x):
    if path.suffix == ".npy":
        np.save(path, x)
    elif path.suffix == ".npz":
        np.savez(path, x=x)
    else:
        import zarr

        zarr.create_array(str(path), data=x, chunks=(5,) * x.ndim)


def all_cases():
    found = [
        *tiff_numbers(), *tiff_compressed(), *tiff_bits(), *tiff_palettes(), *tiff_colours(),
        *tiff_bands(), *tiff_inks(), *tiff_orientations(), *tiff_axes(), *tiff_files(),
        *tiff_of_pillow(), *pictures(), *animations(), *arrays(),
    ]  # fmt: skip
    names = [str(case) for case in found]
    assert len(set(names)) == len(names)
    return found
