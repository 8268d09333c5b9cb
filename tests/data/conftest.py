"""Small texts on disk, and the data errors they have to raise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from raptr_dsl.codes import catalogue
from raptr_dsl.data import ByteTokenizer, DataError, TokenDataset
from raptr_dsl.diagnostics import Diagnostic

VERSE = "The quick brown fox jumps over the lazy dog, äußerst schnell – 速い.\n"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder with a few kilobytes of text at two depths, and things that are no text."""
    root = tmp_path / "texts"
    (root / "deep" / "er").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / "b.txt").write_text(VERSE * 40, "utf-8")
    (root / "a.md").write_text("# Title\n" + VERSE * 10, "utf-8")
    (root / "deep" / "er" / "c.PY").write_text("def f(x):\n    return x + 1\n" * 30, "utf-8")
    (root / "empty.txt").write_bytes(b"")
    (root / "picture.png").write_bytes(b"\x89PNG")
    (root / ".hidden" / "d.txt").write_text("secret")
    (root / ".e.txt").write_text("secret")
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@contextmanager
def refusal(*codes: str) -> Iterator[list[Diagnostic]]:
    """Expects a `DataError` of exactly these codes, each of them in the catalogue and with a message."""
    found: list[Diagnostic] = []
    with pytest.raises(DataError) as caught:
        yield found
    found.extend(caught.value.diagnostics)
    assert [item.code for item in found] == list(codes)
    assert set(codes) <= set(catalogue())
    assert all(item.message for item in found)


@pytest.fixture
def refused() -> Callable[..., object]:
    return refusal


@pytest.fixture
def positions() -> Callable[..., TokenDataset]:
    """Datasets in which every token is its own position, so that a batch tells where it came from."""

    def make(tokens: int, chunk: int | None = None) -> TokenDataset:
        return TokenDataset(np.arange(tokens, dtype="<u4"), ByteTokenizer(), {}, chunk_tokens=chunk)

    return make


M0, M1, W0, W1 = 0xD2E7470EE14C6C93, 0xCA5A826395121157, 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
LOW = (1 << 64) - 1


def philox(key: tuple[int, int], counter: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Philox4x64-10 in integers, after Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & LOW, (p0 >> 64) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return c0, c1, c2, c3


@pytest.fixture(name="philox")
def philox_fixture() -> Callable[..., tuple[int, int, int, int]]:
    return philox
