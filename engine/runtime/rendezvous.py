"""How the processes that torchrun starts again find each other.

torchrun keeps its store over restarts, with the addresses that ended processes have left in it, and
new processes may read these and try to connect there. Neither the restart count nor the rank tells
old from new on every machine: who joins later counts from zero. So each start agrees on a name.
"""

import os
import time
import uuid

import torch.distributed as dist

POLL_SECONDS = 0.05


def store_of_this_start(rank: int, world_size: int) -> dist.Store | None:
    """The part of torchrun's store that belongs to this start.

    Args:
        world_size: processes in all; every one of them has to call this.

    Returns:
        The store; None where rank 0 opens one of its own, which is new at every start.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    store, _, _ = next(dist.rendezvous("env://"))
    return dist.PrefixStore(agreed_name(store, rank, world_size), store)


def agreed_name(store: dist.Store, rank: int, world_size: int) -> str:
    """A name that no earlier start has had, the same one on all processes.

    Rank 0 makes it up. The others ask for it by a token of their own, since whatever they would
    find under a known key may be old; rank 0 answers whatever token it finds, old or new, until
    all others have said that they know the name.
    """
    own = uuid.uuid4().hex
    if rank > 0:
        store.set(f"asking/{rank}", own)
        name = store.get(f"name/{own}").decode()
        store.set(f"knows/{name}/{rank}", "")
        return name
    missing = set(range(1, world_size))
    deadline = time.monotonic() + store.timeout.total_seconds()
    while missing:
        for other in sorted(missing):
            if store.check([f"asking/{other}"]):
                store.set(f"name/{store.get(f'asking/{other}').decode()}", own)
        missing = {other for other in missing if not store.check([f"knows/{own}/{other}"])}
        if missing and time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(missing)} of {world_size} have not started")
        time.sleep(POLL_SECONDS)
    return own
