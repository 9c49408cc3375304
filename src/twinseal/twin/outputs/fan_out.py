"""All outputs together: each has a queue of its own, and a task that empties it.

- An output that takes messages is waited for when its queue is full: the twin then reads no faster than that output
  writes. This back-pressure ends after `PATIENCE_S` without any progress.
- An output that fails is waited for no longer. It is asked again after a second, two, and so on up to a minute, each
  time somewhat earlier or later, always with the same messages; meanwhile its queue fills.
- When the queue of an output that fails is full, its oldest answers make room, which newer ones of the unit replace in
  any case; then its oldest alerts, of the least severity first. What is dropped is counted, and told.

Example:
    outputs = Outputs([LinesOutput(...), MqttOutput(...)], tell)
    await outputs.open()
    await outputs.publish(answers)
    await outputs.settled()            # what works has taken them: acknowledge the telemetry
    await outputs.close(10.0)
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from twinseal.errors import TwinsealError
from twinseal.twin.answers import Answer
from twinseal.twin.inputs.backoff import Backoff
from twinseal.twin.outputs.alert import SEVERITIES
from twinseal.twin.outputs.output import Message, Output, OutputError, OutputEvent, Tell

log = structlog.get_logger(__name__)

QUEUE = 20_000
BATCH = 500  # offered to an output at once
PATIENCE_S = 10.0
FIRST_WAIT_S, LAST_WAIT_S = 1.0, 60.0


class Outputs:
    """Delivers messages to every output, none of which waits for another that fails.

    Args:
        outputs: With names of their own.
        tell: Told what happens, as it happens.
        queue: How many messages one output may have waiting.
        wait_s: The first wait after a failure, in seconds.
        chance: From 0 to 1, uniform: so that many twins do not come back at once.

    Raises:
        ValueError: Two outputs have one name.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        tell: Tell,
        *,
        queue: int = QUEUE,
        wait_s: float = FIRST_WAIT_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        names = [output.name for output in outputs]
        if len(set(names)) != len(names):
            raise ValueError(f"outputs: expected a name each, got {names}")
        self._lanes = [_Lane(output, tell, queue, wait_s, chance) for output in outputs]

    async def open(self) -> None:
        """Begin all of them.

        Raises:
            ConfigError: One can never work. None is open then.
        """
        opened: list[_Lane] = []
        try:
            for lane in self._lanes:
                await lane.open()
                opened.append(lane)
        except BaseException:
            for lane in opened:
                await lane.close(0.0)
            raise

    async def publish(self, messages: Sequence[Message]) -> None:
        """Queue messages for every output; it waits for those that are slow, and for none that fails."""
        await asyncio.gather(*(lane.put(messages) for lane in self._lanes))

    async def settled(self) -> None:
        """Wait until every output that works has taken what was published before; for none that fails."""
        await asyncio.gather(*(lane.settled() for lane in self._lanes))

    def reopen(self) -> None:
        """Open files anew: for SIGHUP."""
        for lane in self._lanes:
            lane.output.reopen()

    async def close(self, within_s: float) -> None:
        """Empty the queues, as far as that can be done in time, and close all. What is left is counted and told."""
        await asyncio.gather(*(lane.close(within_s) for lane in self._lanes))

    @property
    def waiting(self) -> dict[str, int]:
        """How many messages wait, by output."""
        return {lane.output.name: len(lane.queue) for lane in self._lanes}

    @property
    def dropped(self) -> dict[str, int]:
        """How many messages were dropped since the start, by output."""
        return {lane.output.name: lane.dropped for lane in self._lanes}


class _Lane:
    """One output, its queue and its task."""

    def __init__(self, output: Output, tell: Tell, most: int, wait_s: float, chance: Callable[[], float]) -> None:
        self.output, self._tell, self._most, self._wait_s, self._chance = output, tell, most, wait_s, chance
        self.queue: deque[Message] = deque()
        self.dropped, self.fails = 0, False
        self._taken = 0  # messages, since the start
        self._more, self._moved = asyncio.Event(), asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.output.open(self._note)
        self._task = asyncio.create_task(self._run(), name=f"output {self.output.name}")

    async def put(self, messages: Sequence[Message]) -> None:
        wanted = [message for message in messages if self.output.takes(message)]
        for start in range(0, len(wanted), self._most):
            some = wanted[start : start + self._most]
            while len(self.queue) + len(some) > self._most and not self.fails:
                await self._wait_for_progress()
            self._make_room(len(self.queue) + len(some) - self._most)
            self.queue.extend(some)
            self._more.set()

    async def settled(self) -> None:
        while self.queue and not self.fails:
            await self._wait_for_progress()

    async def close(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                while self.queue and within_s:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pass
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        left = len(self.queue)
        if left:
            self.queue.clear()
            self._drop(left, "it did not take them before the twin ended")
        try:
            await self.output.close()
        except OutputError as error:
            self._tell(OutputEvent("failing", self.output.name, str(error)))

    async def _run(self) -> None:
        backoff = Backoff(self._wait_s, LAST_WAIT_S, self._chance)
        while True:
            await self._more.wait()
            batch = [self.queue[place] for place in range(min(len(self.queue), BATCH))]
            try:
                if batch:
                    await self.output.publish(batch)
            except Exception as error:  # whatever goes wrong at one output, the others and the answers go on
                await self._failed(error)
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            await self._took(batch)

    async def _failed(self, error: Exception) -> None:
        if not self.fails:
            is_known = isinstance(error, OutputError | TwinsealError)
            reason = str(error) if is_known else f"expected messages to be taken, got {type(error).__name__}: {error}"
            await self._fail(reason)

    async def _fail(self, reason: str) -> None:
        self.fails = True
        log.warning("output.failing", output=self.output.name, reason=reason)
        self._tell(OutputEvent("failing", self.output.name, reason))
        async with self._moved:
            self._moved.notify_all()

    async def _took(self, batch: Sequence[Message]) -> None:
        # Meanwhile some may have made room for newer ones: remove those of the batch that are still there.
        for message in batch:
            if self.queue and self.queue[0] is message:
                self.queue.popleft()
        self._taken += len(batch)
        if not self.queue:
            self._more.clear()
        if self.fails:
            self.fails = False
            log.info("output.working", output=self.output.name)
            self._tell(OutputEvent("working", self.output.name))
        async with self._moved:
            self._moved.notify_all()

    async def _wait_for_progress(self) -> None:
        """Wait until some messages were taken, or the output fails; one that takes none for long fails."""
        taken = self._taken
        try:
            async with asyncio.timeout(PATIENCE_S), self._moved:
                await self._moved.wait_for(lambda: self._taken > taken or self.fails)
        except TimeoutError:
            if not self.fails:
                await self._fail(f"{self.output.name}: expected messages to be taken, got none in {PATIENCE_S:g} s")

    def _make_room(self, number: int) -> None:
        """Drop so many messages: answers first, the oldest first; then alerts, of the least severity first."""
        if number <= 0:
            return
        number = max(number, self._most // 20)  # some at once: to look through a long queue for each would take long
        order = sorted(range(len(self.queue)), key=lambda place: (_worth(self.queue[place]), place))
        out = set(order[:number])
        self.queue = deque(item for place, item in enumerate(self.queue) if place not in out)
        self._drop(len(out), "it does not take them, and its queue is full")

    def _drop(self, number: int, why: str) -> None:
        message = f"{self.output.name}: expected all messages to be delivered, got {number} dropped: {why}"
        self._note(OutputEvent("dropped", self.output.name, message, number))

    def _note(self, event: OutputEvent) -> None:
        self.dropped += event.number
        if event.kind == "dropped":
            log.error("output.dropped", output=self.output.name, number=event.number, reason=event.message)
        self._tell(event)


def _worth(message: Message) -> int:
    """What is dropped first has the least."""
    return -1 if isinstance(message, Answer) else SEVERITIES.index(message.severity)
