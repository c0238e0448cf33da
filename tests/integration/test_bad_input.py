"""Each input of the corpus ends as it should in intake's header reader and in the decoder subprocesses."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from screening import header
from screening.errors import FailureCode
from screening.header import HeaderRefusedError
from screening.settings import Settings
from tests.corpus import CORPUS, FAILED_BY_THE_WORKER, REFUSED_AT_INTAKE, SCREENED, Case
from worker.decoding.pool import Decoded, DecodeRefusedError, DecoderPool

# In production these warnings, of broken EXIF, are ignored; here every filter but pytest's own is reset.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

SETTINGS = Settings(decoders=1)


def named(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(SETTINGS) as made:
        yield made


def read_header(data: bytes) -> header.Header:
    return header.read(BytesIO(data), len(data), SETTINGS)


@named([case for case in REFUSED_AT_INTAKE if case.problem != "too_many_bytes"])
def test_intake_refuses_it_from_its_header(case: Case) -> None:
    with pytest.raises(HeaderRefusedError) as refused:
        read_header(case.make())
    code = refused.value.failure.code
    assert ("undecodable_header" if code == FailureCode.UNDECODABLE else code) == case.problem


@named(REFUSED_AT_INTAKE)
def test_what_intake_refuses_the_decoder_refuses_too(pool: DecoderPool, case: Case) -> None:
    """For fetched images, and for the day when intake lets something through."""
    refused = refusal(pool, case)
    expected = {case.problem, *({"undecodable", "unsupported_format"} if case.problem == "undecodable_header" else ())}
    assert (str(refused.failure.code) in expected, refused.strike) == (True, False), refused.failure


@named(FAILED_BY_THE_WORKER)
def test_the_decoder_refuses_what_intake_accepts(pool: DecoderPool, case: Case) -> None:
    read_header(case.make())
    refused = refusal(pool, case)
    assert (refused.failure.code, refused.strike) == (case.failure, False)


def refusal(pool: DecoderPool, case: Case) -> DecodeRefusedError:
    before = pool.pids
    with pytest.raises(DecodeRefusedError) as refused:
        pool.decode(case.make())
    assert pool.pids == before
    return refused.value


@named(SCREENED)
def test_it_decodes_to_what_a_person_sees(pool: DecoderPool, case: Case) -> None:
    assert case.seen is not None
    data, seen = case.make(), case.seen()
    decoded = pool.decode(data)
    assert decoded.pixels.shape == seen.shape
    assert difference(decoded.pixels, seen) <= case.tolerance
    assert (decoded.format, decoded.frames, frozenset(decoded.reasons)) == (case.format, case.frames, case.reasons)
    assert_header_agrees(data, decoded, case)


def difference(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """The mean absolute difference; in bytes, because as integers 49 MP are gigabytes."""
    assert one.dtype == other.dtype == np.uint8
    return float((np.maximum(one, other) - np.minimum(one, other)).mean())


def assert_header_agrees(data: bytes, decoded: Decoded, case: Case) -> None:
    found = read_header(data)
    height, width = decoded.pixels.shape[:2]
    assert (found.format, found.width, found.height) == (decoded.format, width, height)
    assert found.turned == decoded.orientation_applied


def test_the_corpus_names_each_case_once() -> None:
    names = [case.name for case in CORPUS]
    assert len(set(names)) == len(names) > 100
