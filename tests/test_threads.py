"""Work side by side: all of it, in this thread's modes, and torch's number of threads stays."""

from __future__ import annotations

import threading

import pytest
import torch
from laws import number_of_threads

from lic_lab.layers.threads import side_by_side

CPU = torch.device("cpu")


def test_every_piece_is_done_by_one_thread_of_several() -> None:
    done, meeting = {}, threading.Barrier(2, timeout=60)

    def work(piece: int) -> None:
        if piece < 2:
            meeting.wait()  # passes only when two threads are here at once
        done[piece] = torch.get_num_threads(), threading.get_ident()

    with number_of_threads(2):
        side_by_side(work, range(20), CPU)
        assert torch.get_num_threads() == 2
        begun = []
        thread = threading.Thread(target=lambda: begun.append(torch.ones(10**6).sum() and torch.get_num_threads()))
        thread.start()
        thread.join()
        assert begun == [2]  # a thread that begins later has as many as this one
    assert sorted(done) == list(range(20))
    assert {threads for threads, _ in done.values()} == {1}
    assert threading.get_ident() not in {thread for _, thread in done.values()}


@pytest.mark.parametrize("threads, worthwhile, device", [(1, True, "cpu"), (2, False, "cpu"), (2, True, "meta")])
def test_this_thread_does_what_is_not_worth_others(threads: int, worthwhile: bool, device: str) -> None:
    done = []
    with number_of_threads(threads):
        side_by_side(lambda _: done.append(threading.get_ident()), range(5), torch.device(device), worthwhile)
    assert done == [threading.get_ident()] * 5


def test_autograd_s_modes_are_this_thread_s() -> None:
    modes = []

    def work(_: int) -> None:
        modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    with number_of_threads(2):
        for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
            with mode():
                side_by_side(work, range(2), CPU)
    assert modes == [(False, False)] * 2 + [(True, False)] * 2 + [(False, True)] * 2


def test_an_error_is_this_thread_s_too() -> None:
    with number_of_threads(2):
        with pytest.raises(ZeroDivisionError):
            side_by_side(lambda piece: 1 // piece, range(3), CPU)
        assert torch.get_num_threads() == 2
