"""The folder datasets one by one: their traps, what they refuse, and how image files are decoded."""

import shutil
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tasks.base import DataError, NoData
from tasks.reading import decoding, squares
from tasks.ultrasound.busi import TASK as BUSI
from tests.layouts import busi


def test_busi_takes_images_and_never_masks(tmp_path):
    busi.write(tmp_path)
    samples = BUSI.scan(tmp_path)
    assert len(samples) == busi.IMAGES
    assert len({sample.group for sample in samples}) == busi.GROUPS
    assert not any("_mask" in sample.id for sample in samples)
    assert samples[0].id == "Dataset_BUSI_with_GT/benign/benign (1).png"
    by_id = {sample.id.rpartition("/")[2]: sample for sample in samples}
    assert by_id["benign (3).png"].group == by_id["malignant (3).png"].group  # one group, two classes
    assert by_id["benign (3).png"].label != by_id["malignant (3).png"].label


def test_busi_without_a_group_table_keeps_exact_copies_together(tmp_path):
    busi.write(tmp_path)
    (tmp_path / "groups.csv").unlink()
    top = tmp_path / "Dataset_BUSI_with_GT"
    shutil.copy(top / "benign" / "benign (7).png", top / "malignant" / "malignant (7).png")
    samples = BUSI.scan(tmp_path)
    assert len({sample.group for sample in samples}) == busi.IMAGES - 1
    assert {sample.group for sample in samples if "(7)" in sample.id and sample.label < 2} == {
        samples[0].id[:-7] + "(7).png"
    }


def test_busi_names_an_image_that_the_group_table_lacks(tmp_path):
    busi.write(tmp_path)
    top = tmp_path / "Dataset_BUSI_with_GT"
    shutil.copy(top / "benign" / "benign (1).png", top / "benign" / "benign (999).png")
    with pytest.raises(DataError, match=r"groups.csv: no group for '.*benign \(999\).png' \(1 images"):
        BUSI.scan(tmp_path)


def test_busi_refuses_foreign_names_and_ignores_hidden_files(tmp_path):
    busi.write(tmp_path)
    folder = tmp_path / "Dataset_BUSI_with_GT" / "benign"
    (folder / "._benign (1).png").write_bytes(b"")
    (folder / "Thumbs.db").write_bytes(b"")
    (folder / "benign (2).png").rename(folder / "benign (2).PNG")
    (tmp_path / "groups.csv").unlink()
    assert len(BUSI.scan(tmp_path)) == busi.IMAGES
    shutil.copy(folder / "benign (1).png", folder / "benign (1) copy.png")
    with pytest.raises(DataError, match=r"benign \(1\) copy.png: the name is not like 'benign \(1\).png' \(1 such"):
        BUSI.scan(tmp_path)


def test_a_wrong_layout_says_what_is_there(tmp_path):
    busi.write(tmp_path)
    (tmp_path / "Dataset_BUSI_with_GT" / "malignant").rename(tmp_path / "Dataset_BUSI_with_GT" / "cancer")
    with pytest.raises(DataError, match="no folder 'malignant', found benign, cancer, normal"):
        BUSI.scan(tmp_path)


def test_a_top_folder_too_deep_or_twice_is_not_taken(tmp_path):
    busi.write(tmp_path / "a" / "b" / "c")
    with pytest.raises(NoData, match="make data TASK=busi"):
        BUSI.scan(tmp_path)
    busi.write(tmp_path / "one")
    busi.write(tmp_path / "two")
    with pytest.raises(DataError, match=r"folder 'Dataset_BUSI_with_GT' is there 2 times.*keep one"):
        BUSI.scan(tmp_path)


def test_another_datasets_group_table_is_not_ours(tmp_path):
    busi.write(tmp_path)
    (tmp_path / "groups.csv").write_text("file,patient_group\nBreaKHis_v1/x.png,14-1\n")
    assert len({sample.group for sample in BUSI.scan(tmp_path)}) == busi.IMAGES
    (tmp_path / "groups.csv").write_text("file,patient_group\nDataset_BUSI_with_GT/benign/benign (1).png,1\n")
    with pytest.raises(DataError, match="no column 'neardup_group', found file, patient_group"):
        BUSI.scan(tmp_path)
    (tmp_path / "groups.csv").write_text("path,group\n")
    with pytest.raises(DataError, match=r"no column 'file', found path, group; its first line.*mend it"):
        BUSI.scan(tmp_path)


def _gradient(high: int, dtype: type) -> np.ndarray:
    return np.linspace(0, high, 12 * 10).reshape(12, 10).astype(dtype)


GREY = np.repeat((_gradient(65535, np.uint16) // 257).astype(np.uint8)[..., None], 3, axis=2)
SAVED = {
    "grey.png": lambda: Image.fromarray(GREY[..., 0]),
    "16 bit.png": lambda: Image.fromarray(_gradient(65535, np.uint16)),
    "16 bit.tif": lambda: Image.fromarray(_gradient(65535, np.uint16)),
    "16 bit big-endian.tif": lambda: Image.fromarray(_gradient(65535, np.uint16).astype(">u2")),
    "32 bit.tif": lambda: Image.fromarray(_gradient(65535, np.int32)),
    "rgb.bmp": lambda: Image.fromarray(GREY),
    "rgba.png": lambda: Image.fromarray(GREY).convert("RGBA"),
    "grey alpha.png": lambda: Image.fromarray(GREY[..., 0]).convert("LA"),
    "palette.png": lambda: Image.fromarray(GREY[..., 0]).convert("P"),
    "cmyk.tif": lambda: Image.fromarray(GREY).convert("CMYK"),
}


@pytest.mark.parametrize("name", SAVED)
def test_every_kind_of_pixel_becomes_8_bit_rgb(tmp_path, name):
    SAVED[name]().save(tmp_path / name)
    image = decoding.decode(tmp_path / name)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, GREY)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_channels_are_red_green_blue(tmp_path, suffix):
    Image.new("RGB", (16, 16), (250, 120, 10)).save(tmp_path / f"orange.{suffix}")
    np.testing.assert_allclose(
        decoding.decode(tmp_path / f"orange.{suffix}"), np.full((16, 16, 3), (250, 120, 10)), atol=3
    )


def test_transparent_pixels_become_black_and_exif_rotation_is_applied(tmp_path):
    alpha = np.zeros(GREY.shape[:2], np.uint8)
    alpha[0] = 255
    Image.fromarray(np.dstack([GREY, alpha])).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(decoding.decode(tmp_path / "clear.png"), np.where(alpha[..., None], GREY, 0))
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned a quarter clockwise
    Image.fromarray(GREY).save(tmp_path / "turned.png", exif=turned)
    np.testing.assert_array_equal(decoding.decode(tmp_path / "turned.png"), np.rot90(GREY, -1))


@pytest.mark.parametrize(
    ("name", "content"), [("empty.png", b""), ("text.jpg", b"not an image"), ("cut.png", None), ("float.tif", None)]
)
def test_unreadable_files_are_named_with_their_size(tmp_path, name, content):
    path = tmp_path / name
    if name == "cut.png":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
        content = path.read_bytes()[:3000]
    if content is None:
        Image.fromarray(_gradient(1, np.float32)).save(path)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: unreadable image \({path.stat().st_size} bytes.*fetch it again"):
        decoding.decode(path)
    with pytest.raises(DataError, match=r"gone\.png: unreadable image \(no such file"):
        decoding.decode(tmp_path / "gone.png")


RANGE = r"16-bit pixels of which none is over \d+ of 65,535"


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_grey_of_fewer_bits_than_it_is_stored_in_is_refused(tmp_path, suffix, bits):
    Image.fromarray(_gradient(2**bits - 1, np.uint16)).save(tmp_path / f"few.{suffix}")
    with pytest.raises(DataError, match=RANGE):
        decoding.decode(tmp_path / f"few.{suffix}")


def test_a_black_image_of_16_bits_is_black(tmp_path):
    Image.fromarray(np.zeros((12, 10), np.uint16)).save(tmp_path / "black.png")
    assert not decoding.decode(tmp_path / "black.png").any()


def _tiff(path, values: np.ndarray, bits: int, photometric: int, kind: int = 1) -> None:
    """A TIFF of (height, width) grey or (height, width, 3) colour in 16-bit words, or of packed 12-bit grey."""
    height, width = values.shape[:2]
    samples = values.shape[2] if values.ndim == 3 else 1
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(int)
        packed = [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255]
        pixels = np.stack(packed, axis=1).astype(np.uint8).tobytes()
    else:
        pixels = values.astype("<u2").tobytes()
    tags = {256: width, 257: height, 259: 1, 262: photometric, 277: samples, 278: height, 279: len(pixels), 339: kind}
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    deep = struct.pack("<3H", bits, bits, bits)
    tags |= {258: bits if samples == 1 else start, 273: start + len(deep)}
    entries = b"".join(struct.pack("<HHII", tag, 3, samples if tag == 258 else 1, tags[tag]) for tag in sorted(tags))
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + deep + pixels)


def test_tiff_grey_is_read_by_its_bits_and_by_which_end_is_white(tmp_path):
    wide, few = _gradient(65535, np.uint16), _gradient(4095, np.uint16)
    _tiff(tmp_path / "black is zero.tif", wide, 16, 1)
    _tiff(tmp_path / "white is zero.tif", wide, 16, 0)
    _tiff(tmp_path / "12 bits.tif", few, 12, 1)
    np.testing.assert_array_equal(decoding.decode(tmp_path / "black is zero.tif"), GREY)
    inverted = (65535 - wide.astype(int)) // 257
    np.testing.assert_array_equal(decoding.decode(tmp_path / "white is zero.tif")[..., 0], inverted)
    np.testing.assert_array_equal(decoding.decode(tmp_path / "12 bits.tif")[..., 0], few.astype(int) * 255 // 4095)


def test_pixels_without_an_agreed_scale_are_refused(tmp_path):
    colour = np.repeat(_gradient(4095, np.uint16)[..., None], 3, axis=2)
    _tiff(tmp_path / "colour.tif", colour, 16, 2)
    with pytest.raises(DataError, match=RANGE):
        decoding.decode(tmp_path / "colour.tif")
    _tiff(tmp_path / "signed.tif", _gradient(32767, np.uint16), 16, 1, kind=2)
    with pytest.raises(DataError, match="signed pixels have no agreed scale"):
        decoding.decode(tmp_path / "signed.tif")
    full = np.repeat(_gradient(65535, np.uint16)[..., None], 3, axis=2)
    _tiff(tmp_path / "full.tif", full, 16, 2)
    np.testing.assert_array_equal(decoding.decode(tmp_path / "full.tif"), full >> 8)


@pytest.mark.parametrize(("mode", "alpha"), [("RGBA", 0), ("RGBA", 1), ("LA", 0)])
def test_an_image_that_is_transparent_everywhere_is_refused(tmp_path, mode, alpha):
    image = Image.fromarray(GREY).convert(mode)
    image.putalpha(alpha)
    image.save(tmp_path / "clear.png")
    with pytest.raises(DataError, match=rf"transparent everywhere \(alpha is at most {alpha} of 255\)"):
        decoding.decode(tmp_path / "clear.png")


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png"])
def test_a_file_of_several_images_is_refused_and_one_of_a_single_image_read(tmp_path, suffix):
    pages = [Image.fromarray(np.roll(GREY, n, axis=1)) for n in range(3)]
    pages[0].save(tmp_path / f"several.{suffix}", save_all=True, append_images=pages[1:], lossless=True)
    with pytest.raises(DataError, match=rf"several.{suffix}.*3 images in one file; save each as a file of its own"):
        decoding.decode(tmp_path / f"several.{suffix}")
    pages[0].save(tmp_path / f"one.{suffix}", lossless=True)
    np.testing.assert_array_equal(decoding.decode(tmp_path / f"one.{suffix}"), GREY)


def test_the_smaller_versions_of_a_tiff_are_no_images_of_their_own(tmp_path):
    small = Image.fromarray(GREY).resize((5, 6))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(GREY).save(tmp_path / "pyramid.tif", save_all=True, append_images=[small])
    with Image.open(tmp_path / "pyramid.tif") as file:
        assert file.n_frames == 2
    np.testing.assert_array_equal(decoding.decode(tmp_path / "pyramid.tif"), GREY)


def test_a_large_profile_or_comment_leaves_the_pixels_sound(tmp_path):
    comments = PngImagePlugin.PngInfo()
    comments.add_text("plain", "x" * 3_000_000)
    comments.add_text("packed", "x" * 3_000_000, zip=True)
    comments.add_itxt("translated", "x" * 3_000_000, zip=True)
    Image.fromarray(GREY).save(tmp_path / "tile.png", icc_profile=bytes(3_000_000), pnginfo=comments)
    np.testing.assert_array_equal(decoding.decode(tmp_path / "tile.png"), GREY)


@pytest.mark.parametrize("white", [1, 255])
def test_an_outline_is_read_whether_it_stores_1_or_255(tmp_path, white):
    shape = np.zeros((12, 10), bool)
    shape[3:6, 2:8] = True
    Image.fromarray(shape.astype(np.uint8) * white).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(decoding.decode_mask(tmp_path / "mask.png"), shape)
    Image.fromarray(np.zeros((12, 10), np.uint8)).save(tmp_path / "mask.png")
    assert not decoding.decode_mask(tmp_path / "mask.png").any()


@pytest.mark.parametrize(("name", "size"), [("one pixel.png", (1, 1)), ("huge.png", (30_000, 20_000))])
def test_images_too_small_or_too_large_to_be_scans_are_refused_by_name(tmp_path, name, size):
    Image.new("1", size).save(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: unreadable image \(\d+ bytes.*{size[0]} x {size[1]} pixels"):
        decoding.decode(tmp_path / name)


def test_pad_cuts_nothing_and_crop_takes_the_centre():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, :10], image[:, 10:20], image[:, 20:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    padded = squares.to_square(image, 30, "pad")
    np.testing.assert_array_equal(padded[10:20], image)
    assert not padded[:10].any()
    assert not padded[20:].any()
    np.testing.assert_array_equal(squares.to_square(image, 10, "crop"), image[:, 10:20])
    assert (squares.to_square(image, 4, "crop") == (0, 255, 0)).all()
    np.testing.assert_array_equal(squares.to_square(image.transpose(1, 0, 2), 30, "pad"), padded.transpose(1, 0, 2))
    with pytest.raises(ValueError, match="unknown policy 'stretch'; known: pad, crop"):
        squares.to_square(image, 4, "stretch")


def test_resizing_is_antialiased():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(squares.to_square(stripes, 16, "crop").astype(int) - 127).max() <= 3
