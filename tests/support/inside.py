"""Work in the lab's network."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lab.machines import Lab

T = TypeVar("T")


def inside(lab: Lab, work: Callable[[], T]) -> T:
    """Do it in the lab's network: a thread can enter it alone, and ends with it."""

    def entered() -> T:
        with lab.netns.open() as netns:
            if ctypes.CDLL(None, use_errno=True).setns(netns.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        return work()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(entered).result()
