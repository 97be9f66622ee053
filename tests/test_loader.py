"""Loaders: the same batches however they are made, no gap between readings, processes that die."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from svfap.datasets.loading.errors import LoaderError
from svfap.datasets.loading.loader import Loader, Reading, ToDevice
from svfap.datasets.loading.order import EpochSampler, collate
from svfap.datasets.loading.shelf import Placed, Shelf
from tests.batches import in_order, read_all
from tests.conftest import ROOT

posix = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="signals of POSIX systems")


class Numbers(torch.utils.data.Dataset):
    """Items that say which they are; `largest` is what it claims of their size."""

    def __init__(self, length=23, shape=(50, 50), largest=2500, views=1):
        self.length, self.shape, self.item_bytes, self.views = length, shape, largest, views

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        number = key if isinstance(key, int) else key.index + 100 * key.epoch
        views = 1 + number % self.views
        return {
            "clip": np.full((views, *self.shape), number % 256, np.uint8),
            "draws": {"value": torch.full((views,), number), "seen": torch.ones(views, 3).bool()},
            "notes": [number],
        }


def numbers_of(batch):
    return batch["draws"]["value"].tolist()


def check(batch):
    """A batch agrees with itself; what it holds."""
    numbers = numbers_of(batch)
    assert batch["clip"].shape[0] == len(numbers) and batch["draws"]["seen"].all()
    for clip, number in zip(batch["clip"], numbers, strict=True):
        assert (clip == number % 256).all()
    assert list(dict.fromkeys(numbers)) == batch["notes"]
    return numbers


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize(
    "largest", [2500, 0, 5000], ids=["as it says", "unknown size", "larger than it says"]
)
@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_batches_are_the_same_however_their_making_is_divided(num_workers, largest, views):
    dataset = Numbers(largest=largest, views=views)
    expected = [check(batch) for batch in in_order(dataset, 7)]
    assert [len(set(batch)) for batch in expected] == [7, 7, 7, 2]
    assert [check(batch) for batch in in_order(dataset, 7, num_workers=num_workers)] == expected


@pytest.mark.parametrize("num_workers", [0, 2])
def test_readings_follow_each_other_and_resume_anywhere(num_workers):
    train, val = Numbers(11), Numbers(5)
    sampler = EpochSampler(num_samples=11, batch_size=2, seed=3, accumulation=2)

    def readings(epoch, step):
        return [
            Reading.of_epoch(train, sampler, epoch, step),
            Reading.in_order(val, 3),
            Reading.in_order(Numbers(0), 3),
            Reading.of_epoch(train, sampler, epoch + 1, 0, 1),
        ]

    whole = read_all(readings(4, 0), num_workers=num_workers)
    assert [len(batches) for batches in whole] == [6, 2, 0, 2]
    assert sum((check(batch) for batch in whole[1]), []) == [0, 1, 2, 3, 4]
    late = read_all(readings(4, 2), num_workers=num_workers)
    for one, other in zip(late, [whole[0][4:], *whole[1:]], strict=True):
        assert list(map(check, one)) == list(map(check, other))


def test_what_comes_next_is_made_while_this_is_used():
    """The validation's first batch is there, or on its way to the device, before it is wanted."""
    readings = [Reading.in_order(Numbers(4), 2), Reading.in_order(Numbers(2), 2)]

    class Sent(ToDevice):
        numbers = []

        def start(self, batch, names):
            self.numbers.append(numbers_of(batch))
            return batch

    with Loader(readings, num_workers=2, to_device=Sent()) as loader:
        training = iter(loader.read(readings[0]))
        next(training)
        while loader._source._items.empty():  # filled by a thread
            time.sleep(0.001)
        next(training)
        if len(Sent.numbers) == 2:
            while loader._source._items.empty():
                time.sleep(0.001)
        else:
            assert Sent.numbers == [[0, 1], [2, 3], [0, 1]]


class WorkerFacts(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, item):
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        return {"facts": np.array([torch.get_num_threads(), cv2.getNumThreads(), ignored])}


def test_processes_use_one_thread_and_leave_interrupts_to_the_main_process():
    (batch,) = in_order(WorkerFacts(), 1, num_workers=1)
    threads, cv2_threads, ignored = batch["facts"].tolist()
    assert threads == 1 and cv2_threads in (0, 1) and ignored == 1
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_nothing_is_drawn_from_the_generator_of_the_run():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    in_order(Numbers(4), 2, num_workers=1)
    assert torch.equal(torch.rand(3), expected)


class Dying(Numbers):
    """Its item 5 ends the process that makes it."""

    def __init__(self, end):
        super().__init__(8)
        self.end = end

    def __getitem__(self, key):
        if key == 5:
            self.end()
        return super().__getitem__(key)


@posix
@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "died .SIGKILL.*memory runs out"),
        (lambda: os._exit(3), "died .status 3"),
    ],
    ids=["killed", "left"],
)
def test_a_process_that_dies_is_a_sentence(end, words):
    with pytest.raises(LoaderError, match=words):
        in_order(Dying(end), 2, num_workers=2)
    assert not multiprocessing.active_children()


class Refusing(Numbers):
    def __getitem__(self, key):
        if key == 5:
            raise ValueError("a face window that does not fit")
        return super().__getitem__(key)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_of_a_dataset_reaches_the_run_and_no_process_stays(num_workers):
    with pytest.raises(ValueError, match="a face window that does not fit"):
        in_order(Refusing(8), 2, num_workers=num_workers)
    assert not multiprocessing.active_children()


def test_a_run_that_stops_early_leaves_no_process():
    reading = Reading.in_order(Numbers(100), 2)
    with Loader([reading], num_workers=2) as loader:
        next(iter(loader.read(reading)))
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()


def test_processes_that_cannot_start_are_a_sentence(monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", refuse)
    with pytest.raises(LoaderError, match="No space left on device.*--shm-size.*--num_workers 0"):
        in_order(Numbers(4), 2, num_workers=1)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="a place of Linux")
def test_batches_take_nothing_of_the_place_for_shared_memory():
    """Containers have 64 MB there; a batch of 64 clips is 79."""

    class Free(ToDevice):
        least = 2**62

        def start(self, batch, names):
            place = os.statvfs("/dev/shm")
            self.least = min(self.least, place.f_bavail * place.f_frsize)
            return batch

    place, free = os.statvfs("/dev/shm"), Free()
    before = place.f_bavail * place.f_frsize
    in_order(Numbers(24, (2**20,), 2**20), 8, num_workers=2, to_device=free)
    assert before - free.least < 2**20


def test_a_shelf_holds_what_was_put_there():
    shelf = Shelf(3, 10_000)
    slots = [shelf.slot(number) for number in range(3)]
    for number, slot in enumerate(slots):
        for dtype in (torch.uint8, torch.bool, torch.float32):
            tensor = slot.empty((2, 1500 // dtype.itemsize * 2), dtype=dtype)
            tensor.fill_(number)
            place = slot.message(tensor)
            if isinstance(place, Placed):
                assert torch.equal(shelf.at(place), tensor)
        assert isinstance(slot.message(torch.zeros(1)), np.ndarray)
    small, large = slots[0].empty((3,), torch.int64), slots[0].empty((20_000,), torch.uint8)
    assert not any(isinstance(slots[0].message(tensor), Placed) for tensor in (small, large))


def test_samples_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="dimension"):
        collate([{"clip": np.zeros((1, 2))}, {"clip": np.zeros((1, 3))}])


@posix
def test_the_main_process_can_finish_its_step_when_all_are_told_to_end(tmp_path):
    """SIGTERM to the whole process group: batches still come, and the end is a clean one."""
    script = textwrap.dedent(
        """
        import os, signal, time
        import numpy as np
        from svfap.datasets.loading.loader import Loader, Reading

        class Numbers:
            def __len__(self):
                return 12

            def __getitem__(self, item):
                time.sleep(0.1)
                return {"item": np.array([item])}

        if __name__ == "__main__":
            signal.signal(signal.SIGTERM, lambda *_: None)
            reading = Reading.in_order(Numbers(), 1)
            with Loader([reading], num_workers=2) as loader:
                batches = iter(loader.read(reading))
                items = next(batches)["item"].tolist()
                os.killpg(0, signal.SIGTERM)
                items += [value for batch in batches for value in batch["item"].tolist()]
            print(items == list(range(12)))
        """
    )
    path = tmp_path / "main.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
