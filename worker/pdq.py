"""What does an image look like, in 256 bits that copies share? Its PDQ hash, the one that the field exchanges.

Davis and Rosen 2019, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm", sections 3 and 4: the
luminance is blurred twice by a box and sampled at 64 x 64 points; of its cosine transform the frequencies 1 to 16 are
kept in each direction, and a bit says whether a coefficient is above their median. Blur and sampling, of columns and of
rows, are linear and the same for every picture of one size, so here both are one matrix, with 7 numbers a row that are
not zero. A test holds the hashes to those of the reference implementation, whose package has no Linux builds and would
ask every user for a C++ compiler.
"""

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

# A picture is scaled to this first, as the reference implementation's own program does with larger ones. With smaller
# ones too: copies in other sizes then lie 2 bits apart on average, and not 14 as unscaled or 9 as scaled down only (60
# photos in 3 sizes).
SIDE = 512
SAMPLES = 64
FREQUENCIES = 16
STEP, FIRST, TAPS = SIDE // SAMPLES, 2, 7  # pixels from sample to sample, before the first one's, and in each
PARTS = 48  # all weights of a sample are whole 48ths
LUMINANCE = np.array([[0.299, 0.587, 0.114]])  # of R, G, B (ITU-R BT.601)
PER_QUALITY = 90  # gradient steps of 1 % of full brightness for one point of quality


def _blur_and_sample() -> Floats:
    """(64, 512): a row mixes the pixels of one sample. The box is 4 wide, one to the left and two to the right."""
    width = -(-SIDE // (2 * SAMPLES))
    offset = np.subtract.outer(np.arange(SIDE), np.arange(SIDE)).T  # of pixel j from pixel i
    box = ((offset >= width // 2 - (width - 1)) & (offset <= width // 2)).astype(np.float64)
    box /= box.sum(axis=1, keepdims=True)  # narrower at the edges
    at = ((np.arange(SAMPLES) + 0.5) * SIDE / SAMPLES).astype(int)
    mixing: Floats = (box @ box)[at]
    return mixing


def _cosines() -> Floats:
    """(16, 64): the rows 1 to 16 of the cosine transform."""
    frequency, sample = np.arange(1, FREQUENCIES + 1)[:, None], np.arange(SAMPLES)[None, :]
    cosines: Floats = np.sqrt(2 / SAMPLES) * np.cos(np.pi / (2 * SAMPLES) * frequency * (2 * sample + 1))
    return cosines


_SAMPLING = _blur_and_sample()
_WEIGHTS = np.array([[row[n * STEP + FIRST :][:TAPS]] for n, row in enumerate(np.pad(_SAMPLING, ((0, 0), (0, 1))))])
_TAPS = np.rint(PARTS * _WEIGHTS).astype(np.uint16).transpose(2, 0, 1)  # (7, 64, 1)
_COSINES = _cosines()
# A mirror turns the sign of every odd frequency: of the first, the third, ...
_MIRROR = np.where(np.arange(FREQUENCIES) % 2 == 0, -1.0, 1.0)


def dihedral(pixels: Pixels) -> tuple[list[bytes], int]:
    """The hashes, 32 bytes each, of a picture (height, width, 3) turned each way, and its quality, 0 to 100.

    In the order of `screening.similar.TRANSFORMS`: as it is, rotated by 90, 180 and 270 degrees, flipped, mirrored, and
    rotated by 90 and 270 degrees and flipped. Below a quality of 50 a hash means little.
    """
    samples = _samples(pixels)
    upright = _COSINES @ samples @ _COSINES.T
    mirrored, flipped = upright * _MIRROR[None, :], upright * _MIRROR[:, None]
    turned = mirrored * _MIRROR[:, None]
    ways = (upright, mirrored.T, turned, flipped.T, flipped, mirrored, upright.T, turned.T)
    return [_bits(way) for way in ways], _quality(samples)


def distance(first: bytes, second: bytes) -> int:
    """In how many of 256 bits two hashes differ."""
    return (int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).bit_count()


def _samples(pixels: Pixels) -> Floats:
    """(64, 64) of luminance."""
    small = np.asarray(cv2.resize(np.ascontiguousarray(pixels), (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    mixed = _mix_rows(small.reshape(SIDE, -1)).reshape(SAMPLES, SIDE, 3)
    samples: Floats = cv2.transform(mixed.astype(np.float64), LUMINANCE / PARTS) @ _SAMPLING.T
    return samples


def _mix_rows(rows: Pixels) -> npt.NDArray[np.uint16]:
    """(512, n) to (64, n): 48 times the sampled rows, in whole numbers, at a fifth of the full matrix's cost."""
    mixed = np.zeros((SAMPLES, rows.shape[1]), np.uint16)
    for tap, weights in enumerate(_TAPS):
        taken = rows[FIRST + tap :: STEP]  # the last sample has one row less
        mixed[: len(taken)] += taken * weights[: len(taken)]
    return mixed


def _bits(coefficients: Floats) -> bytes:
    """The last coefficient is the first bit, as hashes are written."""
    flat = coefficients.ravel()[::-1]
    median = np.partition(flat, flat.size // 2 - 1)[flat.size // 2 - 1]  # the lower of the two in the middle
    return np.packbits(flat > median).tobytes()


def _quality(samples: Floats) -> int:
    """How much structure there is: the gradients of the samples, whole percents of full brightness, summed."""
    steps = [np.abs(np.trunc(np.diff(samples, axis=axis) * 100 / 255)).sum() for axis in (0, 1)]
    return min(100, int(sum(steps)) // PER_QUALITY)
