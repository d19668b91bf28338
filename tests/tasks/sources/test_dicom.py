"""dicom: frames, groups, grey and colour, and what is blackened."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from tasks.base import DataError
from tests.helpers.corpora import opened
from tests.layouts import source_dicom


@pytest.fixture
def clinic(tmp_path):
    pytest.importorskip("pydicom")
    return tmp_path


def _first(folder):
    source = opened("dicom", folder)
    return source.read(folder, source.scan(folder)[0], 8)


def test_dicom_takes_every_frame_and_lists_what_it_ignores(clinic):
    source_dicom.write(clinic)
    samples = opened("dicom", clinic).scan(clinic)
    assert len(samples) == source_dicom.IMAGES
    assert [sample.id for sample in samples] == [f"a/clip.dcm#0000{n}" for n in range(source_dicom.FRAMES)] + [
        "a/still.dcm#00000",
        "b/no suffix#00000",
    ]
    assert opened("dicom", clinic).left_out(clinic) == {
        "not DICOM": ["b/README.txt"],
        "of modality CT": ["b/ct.dcm"],
        "without pixels": ["b/report.dcm"],
    }


def test_dicom_groups_by_a_hash_and_never_by_the_patients_name(clinic):
    source_dicom.write(clinic)
    samples = opened("dicom", clinic).scan(clinic)
    assert {sample.group for sample in samples} == {
        hashlib.sha256(name).hexdigest()[:12] for name in (b"Jane Doe", b"1.2.3")
    }
    assert not any("Jane" in str(value) for sample in samples for value in sample)
    source_dicom.dicom(clinic / "nobody.dcm", np.ones((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"nobody\.dcm: neither PatientID nor StudyInstanceUID"):
        opened("dicom", clinic).scan(clinic)


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


WIDE = GREY.astype(np.uint16) * 16 + 100


RANGED = np.round((WIDE - 100.0) / (WIDE.max() - 100) * 255)


WINDOWED = np.round(((WIDE - 200.5) / 800).clip(0, 1) * 255)  # window of 801 about 601: 200.5 is black, 1000.5 white


@pytest.mark.parametrize(
    ("array", "attributes", "expected"),
    [
        (GREY, {}, GREY),
        (GREY, {"PhotometricInterpretation": "MONOCHROME1"}, 255 - GREY),
        (GREY, {"WindowCenter": 10, "WindowWidth": 5}, GREY),  # 8-bit pixels are taken as they are
        (WIDE, {}, RANGED),
        (WIDE, {"PhotometricInterpretation": "MONOCHROME1"}, 255 - RANGED),
        (WIDE, {"WindowCenter": [601, 1], "WindowWidth": [801, 1]}, WINDOWED),
        (WIDE, {"WindowCenter": "201.5", "WindowWidth": 1601, "RescaleSlope": 2, "RescaleIntercept": -1000}, WINDOWED),
        (np.full((8, 8), 700, np.uint16), {}, np.zeros((8, 8))),
        (WIDE.astype(np.int16) - 800, {}, RANGED),
    ],
    ids=["as is", "inverted", "8 bits", "range", "inverted range", "window", "rescaled", "flat", "signed"],
)  # fmt: skip
def test_dicom_grey_becomes_8_bits(clinic, array, attributes, expected):
    source_dicom.dicom(clinic / "x.dcm", array, PatientID="1", BurnedInAnnotation="NO", **attributes)
    np.testing.assert_array_equal(_first(clinic), np.repeat(expected[..., None].astype(np.uint8), 3, axis=2))


def test_dicom_colour_becomes_rgb(clinic):
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    source_dicom.dicom(clinic / "x.dcm", colours, PatientID="1", BurnedInAnnotation="NO")
    np.testing.assert_array_equal(_first(clinic), colours)
    ycc = np.asarray(Image.fromarray(colours).convert("YCbCr"))
    source_dicom.dicom(
        clinic / "x.dcm", ycc, PatientID="1", BurnedInAnnotation="NO", PhotometricInterpretation="YBR_FULL"
    )
    assert np.abs(_first(clinic).astype(int) - colours).max() <= 3  # rounding there and back
    half = np.repeat(ycc[:, ::2], 2, axis=1)
    half[..., 0] = ycc[..., 0]
    packed = np.concatenate([half[:, ::2, :1], half[:, 1::2, :1], half[:, ::2, 1:]], axis=2).tobytes()
    source_dicom.dicom(
        clinic / "x.dcm",
        half,
        PatientID="1",
        BurnedInAnnotation="NO",
        PhotometricInterpretation="YBR_FULL_422",
        PixelData=packed,
    )
    again = np.asarray(Image.fromarray(half, "YCbCr").convert("RGB"))
    assert np.abs(_first(clinic).astype(int) - again).max() <= 3


@pytest.mark.parametrize("bits", [8, 16])
def test_dicom_palettes_are_applied(clinic, bits):
    palette = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint8)
    tables = {}
    for name, table in zip(("Red", "Green", "Blue"), palette, strict=True):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        tables[f"{name}PaletteColorLookupTableData"] = (table if bits == 8 else table.astype(np.uint16) * 257).tobytes()
    source_dicom.dicom(
        clinic / "x.dcm",
        GREY,
        PatientID="1",
        BurnedInAnnotation="NO",
        PhotometricInterpretation="PALETTE COLOR",
        **tables,
    )
    np.testing.assert_array_equal(_first(clinic), palette.T[GREY])


def _lit(folder, regions=(), **attributes):
    """Which pixels of a white 40 x 60 frame are not blackened."""
    source_dicom.dicom(folder / "x.dcm", np.full((40, 60), 255, np.uint8), PatientID="1", regions=regions, **attributes)
    return _first(folder)[..., 0] > 0


def _box(top, bottom, left, right):
    box = np.zeros((40, 60), bool)
    box[top:bottom, left:right] = True
    return box


def test_dicom_blackens_what_is_outside_the_regions(clinic):
    two = [(10, 20, 29, 34), (40, 0, 59, 5)]
    np.testing.assert_array_equal(_lit(clinic, two), _box(20, 35, 10, 30) | _box(0, 6, 40, 60))
    np.testing.assert_array_equal(_lit(clinic, two, BurnedInAnnotation="NO"), _lit(clinic, two))
    np.testing.assert_array_equal(_lit(clinic, [(0, 8, 60, 40)]), _box(8, 40, 0, 60))  # one px beyond: counted from 1


def test_dicom_without_usable_regions_loses_its_margins(clinic):
    margins = _box(8, 36, 6, 54)
    np.testing.assert_array_equal(_lit(clinic), margins)
    np.testing.assert_array_equal(_lit(clinic, BurnedInAnnotation="YES"), margins)
    assert _lit(clinic, BurnedInAnnotation="NO").all()
    np.testing.assert_array_equal(_lit(clinic, [(0, 0, 0, 0)]), margins)  # regions that are empty or next to it
    np.testing.assert_array_equal(_lit(clinic, [(30, 20, 10, 5)]), margins)
    np.testing.assert_array_equal(_lit(clinic, [(10, 10, 11, 11)]), margins)
    assert _lit(clinic, [(0, 0, 0, 0)], BurnedInAnnotation="NO").all()
    np.testing.assert_array_equal(_lit(clinic, [(0, 0, 0, 0), (10, 20, 29, 34)]), _box(20, 35, 10, 30))
    np.testing.assert_array_equal(_lit(clinic, [(10, 2, 90, 70)]), margins & _box(2, 40, 10, 60))
    np.testing.assert_array_equal(_lit(clinic, [(100, 0, 120, 30)], BurnedInAnnotation="NO"), margins)


def test_dicom_refuses_what_it_cannot_read(clinic):
    (clinic / "x.dcm").write_bytes(b"not DICOM at all")
    with pytest.raises(DataError, match=r"x\.dcm: unreadable DICOM \(InvalidDicomError.*fetch it again"):
        _first(clinic)
    source_dicom.dicom(clinic / "x.dcm", GREY, PatientID="1", PixelData=b"short!")
    with pytest.raises(DataError, match=r"x\.dcm: unreadable DICOM \(ValueError: "):
        _first(clinic)
    source_dicom.dicom(clinic / "x.dcm", GREY, PatientID="1", PhotometricInterpretation="CMYK")
    with pytest.raises(DataError, match=r"x\.dcm: unreadable DICOM \(.*CMYK"):
        _first(clinic)
    source_dicom.dicom(clinic / "x.dcm", GREY, PatientID="1", Modality="MR")
    with pytest.raises(
        DataError, match=r"no ultrasound image in DICOM below it, found 1 not read: 1 of modality MR \(x\.dcm\)"
    ):
        _first(clinic)


def test_dicom_names_the_plug_ins_of_a_compression(clinic):
    from pydicom import dcmread
    from pydicom.encaps import encapsulate

    source_dicom.dicom(clinic / "x.dcm", GREY, PatientID="1")
    file = dcmread(clinic / "x.dcm")
    file.PixelData = encapsulate([b"\0\0"])
    for syntax, message in (
        ("1.2.840.10008.1.2.4.70", r"to decode JPEG Lossless.*, install a plug-in of pydicom: .*pylibjpeg"),
        ("1.2.840.10008.1.2.4.100", r"no decoder for transfer syntax 1\.2\.840\.10008\.1\.2\.4\.100; convert the file"),
    ):
        file.file_meta.TransferSyntaxUID = syntax
        file.save_as(clinic / "x.dcm")
        with pytest.raises(DataError, match=rf"x\.dcm: {message}"):
            opened("dicom", clinic).scan(clinic)
