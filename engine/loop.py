"""The one training loop, for pre-training and fine-tuning.

It knows batches, gradients, schedules, checkpoints and interruptions. What a loss is comes in as
`loss_of`, what happens after an epoch as `after_epoch`.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from svfap.datasets import rng
from svfap.datasets.loading.loader import Batches, Loader, Reading
from svfap.datasets.loading.order import EpochSampler
from svfap.engine.compute.optim import set_step_values, take_step
from svfap.engine.compute.parallel import Parallel
from svfap.engine.compute.precision import Precision
from svfap.engine.compute.prefetch import open_loader
from svfap.engine.compute.schedules import cosine_schedule
from svfap.engine.flags.flag import Flags
from svfap.engine.flags.resolved import Resolved
from svfap.engine.runtime import checkpoint
from svfap.engine.runtime.checkpoint import Position
from svfap.engine.runtime.distributed import Workers
from svfap.engine.runtime.log import EpochLog, Progress, duration, memory_gib
from svfap.engine.runtime.stopping import StoppedBySignalError, StopRequest, noted
from svfap.engine.runtime.unreadable import UnreadableBudget
from svfap.models.weights.loading import check_same_model

logger = logging.getLogger(__name__)

# After an epoch the state is saved if that is quick, or takes no more than this share of the time.
QUICK_SAVE_SECONDS, SAVING_SHARE = 0.5, 0.05


@dataclass
class Training:
    """Everything a run changes or needs while it trains."""

    flags: Flags
    resolved: Resolved
    workers: Workers
    model: nn.Module
    parallel: Parallel
    optimizer: torch.optim.Optimizer  # its groups carry `lr_scale`
    dataset: Dataset  # training items, indexed by `SampleKey`
    sampler: EpochSampler  # which of them make up this process's batches
    # (model, batch, random generator) -> scalar loss, or a pair of it and a dict of scalar tensors
    # to log as train_<name>, the same names in every step
    loss_of: Callable
    num_videos: int  # in the training part
    precision: Precision
    output_dir: Path | None  # None writes nothing
    average: nn.Module | None = None
    position: Position = field(default_factory=Position)  # where the run stands
    # what checkpoints say beside the state, see `engine.identity`; plain values
    facts: dict = field(default_factory=dict)
    rates: np.ndarray = field(init=False)  # learning rate of every step
    weight_decays: np.ndarray = field(init=False)  # weight decay of every step
    budget: UnreadableBudget = field(init=False)

    def __post_init__(self) -> None:
        """Make what follows from the rest."""
        numbers, length = self.resolved, {"epochs": self.flags.epochs}
        length["steps_per_epoch"] = numbers.steps_per_epoch
        self.rates = cosine_schedule(
            numbers.peak_lr, numbers.final_lr, start_value=numbers.first_lr,
            warmup_epochs=self.flags.warmup_epochs, warmup_steps=self.flags.warmup_steps, **length,
        )  # fmt: skip
        self.weight_decays = cosine_schedule(*numbers.weight_decays, **length)
        self.budget = UnreadableBudget(
            num_videos=self.num_videos,
            share=self.flags.max_unreadable,
            output_dir=self.output_dir,
            workers=self.workers,
        )
        self.scaler = torch.amp.GradScaler("cuda") if self.precision.needs_scaler else None
        self.saved_at, self.save_seconds = time.monotonic(), 0.0
        self.last_saved: Path | None = None

    @property
    def is_over(self) -> bool:
        """Whether all steps are done and the epoch they ended in is closed."""
        position, numbers = self.position, self.resolved
        done = position.epoch * numbers.steps_per_epoch + position.step
        return done >= numbers.total_steps and (position.closed or position.step == 0)

    def save(self, name: str) -> None:
        """Write a checkpoint on the main process; called on all, which may hold parts of it."""
        if not (self.output_dir and self.flags.save_ckpt):
            return
        content = checkpoint.pack(
            whole_state=self.parallel.whole_state,
            model=self.model,
            optimizer=self.optimizer,
            scaler=self.scaler,
            average=self.average,
            position=self.position,
            flags=vars(self.flags),
            global_batch=self.resolved.global_batch,
            name=name,
            facts=self.facts,
        )
        self.last_saved, begun = self.output_dir / name, time.monotonic()
        if self.workers.is_main:
            checkpoint.write_atomically(content, self.last_saved)
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - begun

    def begin(self, path: Path | None) -> None:
        """Go on from a checkpoint, or begin at `--start_epoch` where there is none."""
        if path:
            self.resume_from(path)
        else:
            self.position.epoch = self.flags.start_epoch

    def resume_from(self, path: Path) -> None:
        """Take over the state of a checkpoint.

        ValueError: the file is damaged, or its run had another model or global batch.
        """
        content, batch = checkpoint.read(path), self.resolved.global_batch
        check_same_model(content["model_config"], self.model.config, str(path))
        if content["global_batch"] != batch:
            raise ValueError(
                f"{path} was trained with a global batch of {content['global_batch']}, this "
                f"command has {batch}; keep --batch_size x --update_freq x processes"
            )
        self.position = checkpoint.restore(
            content,
            parallel=self.parallel,
            model=self.model,
            optimizer=self.optimizer,
            scaler=self.scaler,
            average=self.average,
        )
        self.last_saved = path
        logger.info(
            "resumed from %s: %d epochs and %d of %d steps done",
            path, self.position.epoch, self.position.step, self.resolved.steps_per_epoch,
        )  # fmt: skip


def train(
    run: Training,
    log: EpochLog,
    after_epoch: Callable[[int, Loader], dict],
    read_after: Callable[[int], Sequence[Reading]],
) -> None:
    """Train to the last epoch, saving on the way.

    Args:
        run: a new run, or one that `resume_from` put in the middle.
        after_epoch: (epochs done, loader) -> metrics of that epoch; called on all processes.
        read_after: (epochs done) -> what that will read.

    Raises:
        StoppedBySignalError: SIGTERM or SIGINT came; the state is saved.
        FloatingPointError: the loss is not finite; raised on every process.
        TooManyUnreadableError: more unreadable videos than `--max_unreadable`.
    """
    epochs = _epochs_to_train(run)
    readings = [reading for epoch, part in epochs.items() for reading in (part, *read_after(epoch))]
    loading = {"num_workers": run.flags.num_workers, "pin_memory": run.flags.pin_mem}
    with noted() as request, open_loader(readings, run.workers.device, **loading) as loader:
        for epoch, reading in epochs.items():
            facts = _train_epoch(run, log, request, loader.read(reading))
            line = _close_epoch(run, facts)
            line |= after_epoch(epoch, loader)
            if run.workers.is_main:
                log.write(epoch, line)
            saved = _save_epoch(run, epoch)
            if run.workers.any(request.received is not None):
                if not saved:
                    run.save(checkpoint.LAST)
                raise StoppedBySignalError(request.received or "a signal to another process")


def _epochs_to_train(run: Training) -> dict[int, Reading]:
    """The epochs that are left, and the batches of each from where the run stands.

    The first one may have no step left: stopped behind its last one, it has only to be closed.
    """
    epochs, first_step, numbers = {}, run.position.step, run.resolved
    for epoch in range(run.position.epoch, 0 if run.is_over else run.flags.epochs):
        left = numbers.total_steps - epoch * numbers.steps_per_epoch
        stop_step = min(numbers.steps_per_epoch, left)
        if stop_step <= 0 and not first_step:
            break
        stop_step = max(stop_step, first_step)
        epochs[epoch] = Reading.of_epoch(run.dataset, run.sampler, epoch, first_step, stop_step)
        first_step = 0
    return epochs


def _train_epoch(run: Training, log: EpochLog, request: StopRequest, batches: Batches) -> dict:
    """Train on these batches of the current epoch; returns the progress facts."""
    position = run.position
    stop_step = position.step + len(batches) // run.resolved.accumulation
    run.parallel.wrapped.train()
    progress = Progress(
        f"epoch {position.epoch + 1}/{run.flags.epochs}",
        total=stop_step,
        done=position.step,
        clips_per_step=run.resolved.global_batch * run.resolved.clips_per_sample,
        enabled=run.workers.is_main,
    )
    batches = iter(batches)
    pending: list[dict[str, torch.Tensor]] = []  # what steps measured and is not yet read back
    started = time.monotonic()
    try:
        while position.step < stop_step:
            measured, waited, taken = optimizer_step(run, batches)
            pending.append(measured)
            position.step += 1
            position.closed = False
            progress.step(waited)
            report = position.step % run.flags.print_freq == 0 or position.step == stop_step
            report = report or not taken  # which ends the run
            due = _save_is_due(run)
            stopping = request.received is not None
            if report or (run.workers.world_size == 1 and (due or stopping)):
                _read_back(run, pending)
                run.budget.check()
                step = position.epoch * run.resolved.steps_per_epoch + position.step
                values = {"loss": position.losses[-1], "lr": run.rates[step - 1]}
                progress.report(run.workers.device, **values)
                log.boards.write(values, step, "step")
                position.seconds += time.monotonic() - started
                started = time.monotonic()
                # one answer for all: clocks differ, and what all do together must not
                due, stopping = run.workers.any(due), run.workers.any(stopping)
                if due or stopping:
                    run.save(checkpoint.LAST)
                if stopping:
                    raise StoppedBySignalError(request.received or "a signal to another process")
    finally:
        progress.close()
    if progress.done == progress.first:  # the epoch had only to be closed
        return {"clips_per_second": None, "data_wait": None}
    return progress.facts()


def optimizer_step(
    run: Training, batches: Iterator[dict]
) -> tuple[dict[str, torch.Tensor], float, bool]:
    """One optimizer step; on CUDA it never waits for the device (tests/test_fake_cuda_runs.py).

    Returns:
        What it measured, on the device: `loss`, `norm` of the gradient, and the objective's
        metrics, means over the accumulated batches; the seconds waited for data; and False if it
        is known already that the gradient is not finite, so that nothing was updated.
    """
    position, flags, accumulation = run.position, run.flags, run.resolved.accumulation
    step = position.epoch * run.resolved.steps_per_epoch + position.step
    set_step_values(run.optimizer, float(run.rates[step]), float(run.weight_decays[step]))
    draws = rng.generator(flags.seed, position.epoch, position.step, run.workers.rank, "step")
    parts, waited = [], 0.0
    for turn in range(accumulation):
        begun = time.monotonic()
        batch = next(batches)
        waited += time.monotonic() - begun
        if batch["notes"]:
            run.budget.note(batch["notes"])
        # Drop path draws from torch's generator: key it, so that resuming needs no generator state.
        torch.manual_seed(int(draws.integers(2**63)))
        is_last = turn == accumulation - 1
        run.parallel.exchange_gradients(is_last)
        found = run.loss_of(run.parallel.wrapped, batch, draws)
        loss, metrics = found if isinstance(found, tuple) else (found, {})
        scaled = loss / accumulation
        (run.scaler.scale(scaled) if run.scaler else scaled).backward()
        parts.append({"loss": loss.detach(), **metrics})
    if run.scaler:
        run.scaler.unscale_(run.optimizer)
    norm, taken = run.parallel.clip_gradients(flags.clip_grad).detach(), True
    if run.scaler:
        run.scaler.step(run.optimizer)
        run.scaler.update()
    else:
        taken = take_step(run.optimizer, norm)
    run.optimizer.zero_grad(set_to_none=True)
    if run.average and taken:
        run.parallel.update_average(run.average)
    means = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
    measured = {name: value.float() for name, value in (means | {"norm": norm}).items()}
    return measured, waited, taken


def _save_is_due(run: Training) -> bool:
    minutes = (time.monotonic() - run.saved_at) / 60
    return minutes >= run.flags.save_every_minutes


def _read_back(run: Training, pending: list[dict[str, torch.Tensor]]) -> None:
    """Bring what the last steps measured to the host, averaged over processes; check it.

    It stays on the device until here, so a step never waits for the one before.

    Raises:
        FloatingPointError: a loss or gradient is not finite, on any process, so raised on all. Of
            gradients in fp16 the scaler takes care.
    """
    if not pending:
        return
    names = list(pending[0])
    table = torch.stack([torch.stack([step[name] for name in names]) for step in pending])
    values = [dict(zip(names, row)) for row in run.workers.mean(table).tolist()]
    first = run.position.step - len(pending)
    pending.clear()
    for offset, measured in enumerate(values):
        loss, norm = measured.pop("loss"), measured.pop("norm")
        if not math.isfinite(loss):
            raise _not_finite(run, f"the loss is {loss}", first + offset)
        if not (math.isfinite(norm) or run.scaler):
            raise _not_finite(run, f"the norm of the gradient is {norm}", first + offset)
        run.position.losses.append(loss)
        run.position.grad_norms.append(norm)
        for name, value in measured.items():
            run.position.metrics.setdefault(name, []).append(value)


def _not_finite(run: Training, what: str, step: int) -> FloatingPointError:
    rate = run.rates[run.position.epoch * run.resolved.steps_per_epoch + step]
    return FloatingPointError(
        f"{what} in epoch {run.position.epoch}, step {step} (learning rate {rate:.3g}, precision "
        f"{run.precision}); last good checkpoint: {run.last_saved or 'none'}. Start again with "
        "--amp off: the run goes on from there. Or, in another --output_dir, take that file with "
        "--resume, and a lower --lr, --clip_grad 1 or longer --warmup_epochs"
    )


def _close_epoch(run: Training, facts: dict) -> dict:
    """The epoch's line for the log; moves the position to the next epoch if this one is complete.

    An epoch that `--max_steps` has cut off keeps what it measured: a run that goes on from there
    closes it again, as a whole.
    """
    position = run.position
    step = position.epoch * run.resolved.steps_per_epoch + position.step
    norms = [norm for norm in position.grad_norms if math.isfinite(norm)]  # fp16 skips the others
    line = {
        "train_loss": float(np.mean(position.losses)),
        **{f"train_{name}": float(np.mean(values)) for name, values in position.metrics.items()},
        "train_lr": float(run.rates[step - 1]),
        "train_weight_decay": float(run.weight_decays[step - 1]),
        "train_grad_norm": float(np.mean(norms)) if norms else None,
        "clips_per_second": facts["clips_per_second"],
        "data_wait": facts["data_wait"],
        "memory_gib": memory_gib(run.workers.device),
        "seconds": position.seconds,
        "unreadable_videos": run.budget.num_skipped,
    }
    position.closed = True
    if position.step == run.resolved.steps_per_epoch:
        position.epoch += 1
        position.step = 0
        position.losses, position.grad_norms, position.metrics = [], [], {}
    return line


def _is_worth_saving(run: Training, now: float) -> bool:
    """Whether to keep the state after an epoch: writing it may take longer than a short epoch.

    Then it is kept as soon as writing takes no more than its share of the time.
    """
    takes_long = run.save_seconds > QUICK_SAVE_SECONDS
    return not takes_long or SAVING_SHARE * (now - run.saved_at) > run.save_seconds


def _save_epoch(run: Training, epoch: int) -> bool:
    """Keep the state after an epoch, if that is worth it; whether it was.

    The numbered file comes first: were a run killed between the two, it would otherwise go on
    behind the epoch whose file is missing.
    """
    numbered = f"checkpoint-{epoch}.pth"
    half = run.output_dir and (run.output_dir / numbered).exists()  # where --max_steps had cut it
    keep = run.is_over or (epoch + 1) % run.flags.save_ckpt_freq == 0 or half
    if keep:
        run.save(numbered)
    worth = run.workers.is_main and _is_worth_saving(run, time.monotonic())
    if saved := run.workers.any(worth or keep or _save_is_due(run)):
        run.save(checkpoint.LAST)
    if run.workers.is_main:
        logger.info("epoch %d done after %s", epoch + 1, duration(run.position.seconds))
    return saved
