"""Which GPU is whose, counted without torch."""

import pytest

from worker import devices


def test_named_gpus_are_shared_out_by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.VISIBLE, "2,5,GPU-abc")
    assert devices.children("auto") == 3
    devices.claim_own("auto", 4)
    assert devices.visible() == ["5"]


def test_one_child_where_there_is_no_gpu_or_one_device_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.VISIBLE, "")
    assert devices.children("auto") == 1
    monkeypatch.setenv(devices.VISIBLE, "0,1")
    assert (devices.children("cpu"), devices.children("cuda:1")) == (1, 1)


def test_a_child_with_a_named_device_sees_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.VISIBLE, "0,1")
    devices.claim_own("cuda:1", 0)
    assert devices.visible() == ["0", "1"]
