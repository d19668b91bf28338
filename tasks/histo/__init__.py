"""Histology tasks, one file each, and the image sources that encoders are pretrained on."""

CORPORA: dict[str, tuple[str, ...]] = {
    "phantom": ("phantom_local",),  # the three phantom tasks share one image family, so one of them stands for all
    "open": (),  # for datasets that anyone may download unattended; empty until their files are pinned
}
