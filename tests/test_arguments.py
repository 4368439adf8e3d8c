"""What ``checked`` says of arguments: which one, what came, what is wanted; and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from fastlic.arguments import as_device, check_fields, checked


@checked
def scaled(x: Tensor, by: float, names: Sequence[str] = (), table: dict[str, np.ndarray] | None = None) -> Tensor:
    return x.reshape(2, 2) * by


@checked
def counted(count: int) -> Iterator[int]:
    yield count
    raise IndexError("no more")


@dataclass(frozen=True)
class Record:
    size: int
    data: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": [1.0], "by": 2}, "x must be of type Tensor, got list of 1"),
        ({"x": torch.empty(4, device="meta"), "by": 2}, r"got Tensor of torch.float32 \[4\] on meta"),
        ({"x": torch.zeros(2, 2).to_sparse(), "by": 2}, "got Tensor sparse"),
        ({"x": torch.zeros(4), "by": np.float32}, "by must be of type float, got the class float32"),
        ({"x": torch.zeros(4), "by": "2"}, "by must be of type float, got '2'"),
        ({"x": torch.zeros(4), "by": 1j}, "by must be of type float, got complex"),
        ({"x": torch.zeros(4), "by": 1, "names": "text"}, r"names must be of type Sequence\[str\], got 'text'"),
        ({"x": torch.zeros(4), "by": 1, "names": ["a", 1]}, "got list of 2"),
        ({"x": torch.zeros(4), "by": 1, "table": {"a": np.zeros(1, object)}}, "got dict of 1"),
    ],
)
def test_an_argument_of_another_type_is_named_with_what_came_and_what_is_wanted(arguments, words):
    with pytest.raises(TypeError, match=words):
        scaled(**arguments)


def test_what_does_not_fit_is_a_value_error_that_lists_what_came():
    with pytest.raises(ValueError, match=r"scaled cannot work with .*x: Tensor of torch.float32 \[5\], by: 2\): shape"):
        scaled(torch.zeros(5), 2)


def test_numbers_of_numpy_and_named_tables_pass():
    assert torch.equal(scaled(torch.ones(4), np.float32(3), table={"a": np.zeros(1)}), torch.full((2, 2), 3.0))


def test_a_generator_is_asked_at_its_call_and_tells_later_misfits_alike():
    with pytest.raises(TypeError, match=r"count must be of type int, got 1\.5"):
        counted(1.5)
    values = counted(1)
    assert next(values) == 1
    with pytest.raises(ValueError, match=r"cannot work with these arguments.*no more"):
        next(values)


def test_memory_that_is_short_stays_an_error_of_memory():
    @checked
    def greedy(size: int) -> None:
        raise RuntimeError(f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {size} bytes")

    with pytest.raises(MemoryError):
        greedy(1)


def test_errors_of_a_class_of_their_own_pass_through():
    class DeviceError(RuntimeError):
        pass

    @checked
    def broken(size: int) -> None:
        raise DeviceError

    with pytest.raises(DeviceError):
        broken(1)


def test_fields_of_a_record_are_asked_in_the_same_way():
    assert Record(np.int64(3)).size == 3
    with pytest.raises(TypeError, match=r"data must be of type np.ndarray \| None, got 'text'"):
        Record(3, "text")


@pytest.mark.parametrize(("device", "words"), [("abacus", "cannot be had here"), ("meta", "no memory"), ("", "cannot")])
def test_a_device_that_nothing_can_be_computed_on_is_refused(device, words):
    with pytest.raises(ValueError, match=words):
        as_device(device)
