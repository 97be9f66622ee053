"""Processes agree on a part of the store that no earlier start has written to."""

import datetime
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from svfap.engine.runtime import distributed, rendezvous


def clients(world_size, timeout_seconds=20):
    """A store and a connection to it for every process, as torchrun's workers have them."""
    timeout = datetime.timedelta(seconds=timeout_seconds)
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, timeout=timeout, wait_for_workers=False)
    connections = [
        dist.TCPStore("127.0.0.1", server.port, is_master=False, timeout=timeout)
        for _ in range(world_size)
    ]
    return server, connections


def start(connections, ranks=None):
    ranks = range(len(connections)) if ranks is None else ranks
    with ThreadPoolExecutor(len(connections)) as pool:
        world_size = [len(connections)] * len(connections)
        return list(pool.map(rendezvous.agreed_name, connections, ranks, world_size))


def test_every_start_has_a_name_of_its_own_that_all_processes_share():
    server, connections = clients(3)
    names = [start(connections) for _ in range(4)]
    assert all(len(set(of_start)) == 1 for of_start in names)
    assert len({of_start[0] for of_start in names}) == 4


def test_ranks_may_change_from_start_to_start():
    server, connections = clients(3)
    first, second = start(connections, [0, 1, 2]), start(connections, [2, 0, 1])
    assert len(set(first)) == len(set(second)) == 1 and first[0] != second[0]


@pytest.mark.parametrize("left", ["asking/1", "asking/2"])
def test_what_a_killed_process_left_is_not_taken_for_an_answer(left):
    server, connections = clients(3)
    start(connections)
    server.set(left, "token-of-a-killed-process")
    server.set("name/token-of-a-killed-process", "stale")
    names = start(connections)
    assert len(set(names)) == 1 and names[0] != "stale"


def test_rank_0_names_the_processes_that_do_not_come():
    server, connections = clients(1, timeout_seconds=1)
    with pytest.raises(TimeoutError, match=r"processes \[1, 2\] of 3"):
        rendezvous.agreed_name(connections[0], 0, 3)


def test_without_torchruns_store_processes_find_each_other_as_before(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    assert rendezvous.store_of_this_start(0, 2) is None
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    assert rendezvous.store_of_this_start(1, 2) is None


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "0"}, "RANK=0 without WORLD_SIZE and MASTER_ADDR and MASTER_PORT: start with"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 without RANK and MASTER_ADDR"),
        ({"WORLD_SIZE": "1"}, "WORLD_SIZE=1 without RANK"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "without MASTER_ADDR and MASTER_PORT"),
        ({"RANK": "1", "WORLD_SIZE": "1"}, "RANK must be below WORLD_SIZE"),
        ({"RANK": "x", "WORLD_SIZE": "1"}, "whole numbers"),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "-1"}, "whole numbers"),
    ],
)
def test_half_a_launcher_is_explained(monkeypatch, variables, message):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        distributed.start("cpu")
