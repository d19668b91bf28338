"""The scanned area of an ultrasound image: a sector, a trapezium or a rectangle on black, beside burned-in text."""

import numpy as np
from PIL import Image, ImageDraw

SIDE = 256  # of the small copy on which the area is found
DARK = 12  # of 255: up to here a pixel is background
RECTANGLE = 0.95  # of its bounding box: an area that fills so much of it is a rectangle with worn corners
LEAST = 0.05  # of the image: a smaller area is taken for a mistake, and the image is left whole


def cut(image: np.ndarray) -> np.ndarray:
    """uint8 RGB (h, w, 3) -> the bounding box of its scanned area, black outside of the area's convex hull.

    The area is the largest connected region that is not dark, after an opening that takes off letters, rulers and thin
    lines. If it is nearly a rectangle, nothing in the box is blackened; if it is under `LEAST`, the image comes whole.
    """
    hull, box = find_frame(image)
    if hull[box].mean() > RECTANGLE:
        return image[box]
    return np.where(hull[..., None], image, 0)[box].astype(np.uint8)


def find_frame(image: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
    """uint8 RGB (h, w, 3) -> the scanned area, bool (h, w), and its bounding box; the whole image if none is found."""
    hull = find_area(image)
    if hull.mean() < LEAST:
        return np.ones_like(hull), (slice(None), slice(None))
    lit = hull & (image.max(axis=2) > DARK)
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    return hull, (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))


def find_area(image: np.ndarray) -> np.ndarray:
    """uint8 RGB (h, w, 3) -> bool (h, w): the convex hull of the scanned area, empty where nothing is bright."""
    from scipy import ndimage
    from scipy.spatial import ConvexHull, QhullError

    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    grey = np.asarray(Image.fromarray(image).convert("L").resize(size, Image.Resampling.BOX))
    bright = ndimage.binary_closing(np.pad(grey > DARK, 4), iterations=3)
    solid = ndimage.binary_opening(ndimage.binary_fill_holes(bright), iterations=4)[4:-4, 4:-4]
    labels, count = ndimage.label(solid)
    if not count:
        return np.zeros((height, width), bool)
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    points = np.argwhere(largest)[:, ::-1]
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:  # a line
        return np.zeros((height, width), bool)
    factor = np.array([width, height]) / size
    drawn = Image.new("1", (width, height))
    outline = [tuple(corner) for corner in ((corners + 0.5) * factor - 0.5).tolist()]
    ImageDraw.Draw(drawn).polygon(outline, fill=1, outline=1)
    return np.asarray(drawn)
