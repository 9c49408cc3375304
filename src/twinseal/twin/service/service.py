"""The service: sources, outputs, polls and alerts around a live twin, until it is told to stop.

All of it is one event loop, and deliveries are taken one after the other, whichever source they come from:

    source → hear, remember (on the disk), answer → outputs → the source may acknowledge

So what waits is at the sources: nothing is dropped silently. What cannot be remembered, on a full disk, is tried again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import structlog

from twinseal.errors import ConfigError, TwinsealError
from twinseal.twin.answers import Answer
from twinseal.twin.frame_gate import Refused, Taken
from twinseal.twin.inputs.source import Item, Source, SourceEvent, Unreadable
from twinseal.twin.metrics import Metrics
from twinseal.twin.notify import Notifier
from twinseal.twin.outputs.alert import Alert, Key, Severity
from twinseal.twin.outputs.fan_out import Outputs
from twinseal.twin.outputs.output import Output, OutputEvent
from twinseal.twin.service.alerts import Alerts
from twinseal.twin.service.heard import Heard
from twinseal.twin.service.live import LiveTwin
from twinseal.twin.service.releases import Found, Releases
from twinseal.twin.service.remedies import COUNTER, LOST, OLDER, REPORT, SPACE, STRANGERS, WAY, of_refusal
from twinseal.twin.service.settings import TwinSettings
from twinseal.twin.service.silence import Silence
from twinseal.twin.service.watch import RefusedWatch

log = structlog.get_logger()
R = TypeVar("R")

CHECK_S = 60.0  # between two looks at approval and trust; a poll looks at once
TICK_S, RETRY_S, LAST_RETRY_S = 1.0, 1.0, 60.0
_FAR = 1000  # cycles: no gap in a line, but a counter that was set


class Service:
    """A twin that runs as a service.

    Args:
        twin: Answers.
        settings: What the operator set.
        outputs: Where answers and alerts go.
        releases: Looks for new releases; None: nobody does.
        metrics: Counts.
        notifier: Tells systemd.
        say: Told of each alert that is about no machine, for a person at the terminal or in the system's log.
        clock: The time; aware, UTC.
        chance: From 0 to 1, uniform.
    """

    def __init__(
        self,
        twin: LiveTwin,
        settings: TwinSettings,
        outputs: Sequence[Output],
        releases: Releases | None,
        metrics: Metrics,
        notifier: Notifier,
        *,
        say: Callable[[Alert], None] = lambda _: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._twin, self._settings, self._releases = twin, settings, releases
        self._sources: tuple[Source, ...] = ()
        self._metrics, self._notifier, self._now, self._chance = metrics, notifier, clock, chance
        self._outputs = Outputs(outputs, self._note_output)
        self._one = asyncio.Lock()  # one delivery, or one change of the model, at a time
        self._alerts = Alerts(Path(settings.state), lambda: twin.verified.release, clock, say)
        self._watch = RefusedWatch(settings.limits.watch_rows, settings.limits.max_refused_rise)
        self._silence = Silence(settings.limits.silent_after_s)
        self._check_at = 0.0

    @property
    def dropped(self) -> dict[str, int]:
        """How many messages each output did not take."""
        return self._outputs.dropped

    def listen_to(self, sources: Sequence[Source]) -> None:
        """Take telemetry from these, once it runs; they tell `note_source` what happens."""
        self._sources = tuple(sources)

    async def run(self, stop: asyncio.Event) -> None:
        """Answer until `stop` is set or every source has ended; then drain.

        Raises:
            ConfigError: A source or an output is set so that it can never work.
        """
        async with AsyncExitStack() as stack:
            await self._outputs.open()
            stack.push_async_callback(self._drain)
            self._begin()
            self._silence.watch(self._twin.machines())
            await self._say(self._twin.answers(self._now()))
            self._notifier.ready()
            listening = [asyncio.create_task(self._listen(source), name=source.name) for source in self._sources]
            others = [
                asyncio.create_task(work(), name=work.__name__) for work in (self._tick, self._poll, self._verify)
            ]
            ended, stopped = asyncio.create_task(_all(listening)), asyncio.create_task(_set(stop))
            stack.push_async_callback(_end, [*listening, *others, ended, stopped])
            done, _ = await asyncio.wait([ended, stopped, *others], return_when=asyncio.FIRST_COMPLETED)
            self._notifier.stopping()
            for task in done:
                await task  # raises what it raised
            with suppress(TimeoutError):  # the delivery that is being answered, to its end; else it comes again
                async with asyncio.timeout(self._settings.drain_s / 2), self._one:
                    pass

    async def _drain(self) -> None:
        await self._flush()
        await self._outputs.close(self._settings.drain_s / 2)
        self._alerts.save()
        self._twin.close(self._now())

    def _begin(self) -> None:
        """Say what is known at the start."""
        twin = self._twin
        if twin.lost:
            text = f"the memory of units is lost: {twin.lost}"
            self._alerts.tell("telemetry", "rows lost", "critical", text, detail="memory", remedy=LOST)
        if twin.older:
            self._alerts.tell("model", "verification failed", "critical", twin.older, detail="older", remedy=OLDER)
        for item in twin.signed.baselines.refused:
            text = f"baseline of {item.unit}: {item.reason}"
            self._alerts.tell("telemetry", "rows refused", "warning", text, detail="baseline")
        self._tell_of_model()

    async def _listen(self, source: Source) -> None:
        wait = RETRY_S
        while True:
            try:
                async with aclosing(source.deliveries()) as deliveries:
                    async for items in deliveries:
                        await self._take(items)
                        wait = RETRY_S
                return
            except ConfigError:
                raise
            except Exception as error:  # a fault of ours or of a library in one source must not end the others
                log.exception("source.failed", source=source.name)
                self.note_source(SourceEvent("lost", source.name, f"{type(error).__name__}: {error}"))
            await asyncio.sleep(wait * (0.5 + self._chance()))
            wait = min(LAST_RETRY_S, 2 * wait)

    async def _take(self, items: Sequence[Item]) -> None:
        began = time.monotonic()
        async with self._one:
            heard = await self._until_there_is_room(lambda: self._twin.hear(items, self._now()))
            await self._until_there_is_room(lambda: self._twin.remember(heard))
            now = self._now()
            answers = self._answer(heard, now)
            self._count(heard, answers, time.monotonic() - began)
            self._renew_memory(now)
            if self._watch.is_worse(sum(item.readings == "refused" for item in answers), len(answers)):
                self._fall_back("the share of refused rows rose after it began to answer")
        await self._say(answers)
        await self._outputs.settled()

    async def _until_there_is_room(self, work: Callable[[], R]) -> R:
        """Do what writes to the disk; where it is full, say so and try again: the source waits meanwhile."""
        while True:
            try:
                done = work()
            except OSError as error:
                self._alerts.tell("output", "failing", "critical", f"state: {error}", detail="memory", remedy=SPACE)
                await self._flush()
                await asyncio.sleep(RETRY_S)
            else:
                self._alerts.end(Key("output", "failing", "", "memory"))
                return done

    def _answer(self, heard: Heard, now: datetime) -> tuple[Answer, ...]:
        try:
            return self._twin.answer(heard, now)
        except Exception as error:  # a fault of ours in one row must not stop the others, or come again for ever
            log.exception("answer.failed")
            text = f"{len(heard.rows)} rows: expected answers, got {type(error).__name__}: {error}"
            self._alerts.tell("telemetry", "rows refused", "critical", text, detail="fault", remedy=REPORT)
            return ()

    def _renew_memory(self, now: datetime) -> None:
        try:
            if self._twin.keep(now):
                self._metrics.memory_saved(now)
        except OSError as error:  # the rows are on the disk all the same
            self._alerts.tell("output", "failing", "warning", f"state: {error}", detail="memory image", remedy=SPACE)

    def _count(self, heard: Heard, answers: Sequence[Answer], seconds: float) -> None:
        self._metrics.rows(len(answers))
        if answers:
            self._metrics.answered(Counter(item.readings for item in answers), seconds)
        for told in heard.items:
            if isinstance(told, Taken):
                self._count_frame(told)
            else:
                number = told.number if isinstance(told, Unreadable) else 1
                self._metrics.refused(told.reason, number)
                about = "frames refused" if isinstance(told, Refused) else "rows refused"
                remedy = of_refusal(told.reason)
                self._alerts.tell("telemetry", about, "warning", told.message, detail=told.reason, remedy=remedy)

    def _count_frame(self, taken: Taken) -> None:
        rows, device = sum(taken.lost_rows.values()), taken.frame.device
        self._metrics.lost(frames=taken.lost_frames, rows=rows)
        if taken.lost_frames:
            text = f"{taken.lost_frames} frames before frame {taken.frame.sequence} of {device} did not come"
            self._alerts.tell("telemetry", "frames lost", "warning", text, detail=device, remedy=WAY)
        if rows:
            units = ", ".join(list(taken.lost_rows)[:5])
            far = max(taken.lost_rows.values()) > _FAR
            text, remedy = f"{rows} cycles of {units} did not come", COUNTER if far else WAY
            severity: Severity = "critical" if far else "warning"
            self._alerts.tell("telemetry", "rows lost", severity, text, detail=device, remedy=remedy)

    async def _say(self, answers: Sequence[Answer]) -> None:
        messages = [*self._alerts.taken(), *answers]
        strangers = 0
        for answer in answers:
            if unit := self._twin.machine(answer):
                self._silence.hear(unit)
                messages += self._alerts.hear(answer)
            else:
                strangers += 1
        if strangers:
            text = f"{strangers} rows of no machine that is known here, or of none at all"
            self._alerts.tell("telemetry", "rows refused", "warning", text, detail="no machine", remedy=STRANGERS)
        await self._outputs.publish(messages)

    async def _flush(self) -> None:
        if alerts := self._alerts.taken():
            await self._outputs.publish(alerts)

    def reopen(self) -> None:
        """Open the files of outputs anew: for SIGHUP."""
        self._outputs.reopen()

    def note_source(self, event: SourceEvent) -> None:
        """Say what happened to a source."""
        key = Key("telemetry", "source lost", "", event.source)
        if event.kind == "connected":
            self._alerts.end(key)
        elif event.kind == "lost":
            remedy = f"Look at {event.source}, and at the way to it. The twin goes on trying."
            self._alerts.tell("telemetry", "source lost", "critical", event.message, detail=event.source, remedy=remedy)

    def _note_output(self, event: OutputEvent) -> None:
        if event.number:
            self._metrics.dropped(event.output, event.number)
        self._alerts.tell_of_output(event)

    async def _tick(self) -> None:
        while True:
            now = self._now()
            self._metrics.alive()
            self._notifier.alive()
            self._alerts.end_quiet()
            self._tell_of_trust(now)
            self._tell_of_silence()
            self._metrics.waiting(self._outputs.waiting)
            self._metrics.alerts(self._alerts.held)
            await self._flush()
            self._alerts.save()
            await asyncio.sleep(TICK_S)

    def _tell_of_silence(self) -> None:
        for unit, seconds in self._silence.silent():
            after = self._settings.limits.silent_after_s
            text = f"expected a row of {unit} within {after:.0f} s, got none for {seconds:.0f} s"
            self._alerts.tell("telemetry", "late", "warning", text, unit=unit, detail="silent", remedy=WAY)

    def _tell_of_trust(self, now: datetime) -> None:
        twin = self._twin
        trust = twin.ends.state(now)
        for about, severity in (("ends soon", "warning"), ("ended", "critical"), ("unknown", "critical")):
            if trust == about:
                text, remedy = twin.ends.summary(now)
                self._alerts.tell("trust", about, severity, text, remedy=remedy)  # type: ignore[arg-type]
            else:
                self._alerts.end(Key("trust", about))
        for what, fault in (("devices", twin.devices.fault), ("machines", twin.signed.refused)):
            if fault:
                self._alerts.tell("telemetry", "frames refused", "critical", f"{what}: {fault}", detail=what)
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + CHECK_S
            if twin.silent != twin.check(now):
                self._tell_of_model()

    def _tell_of_model(self) -> None:
        twin = self._twin
        self._metrics.answers_by(0 if twin.silent else twin.verified.release.version, twin.ends)
        release = twin.verified.release
        self._notifier.status(twin.silent or f"{release.model} release {release.version} answers")
        if twin.silent:
            remedy = "Every machine is to be inspected. Ask the reviewers and the registrar; then: twinseal pull"
            self._alerts.tell("model", "no release", "critical", twin.silent, remedy=remedy)
        else:
            self._alerts.end(Key("model", "no release"), f"release {release.version} answers")

    def _fall_back(self, why: str) -> None:
        """Go back to the release before; where that cannot be, the conservative answer stays."""
        twin = self._twin
        before = twin.verified.release.version
        try:
            now = twin.fall_back(why, self._now())
        except (TwinsealError, OSError) as error:
            self._alerts.tell(
                "model", "verification failed", "critical", f"release {before}: {why}; no way back: {error}"
            )
            return
        self._alerts.tell("model", "fell back", "critical", f"from release {before} to release {now}: {why}")
        self._tell_of_model()

    async def _poll(self) -> None:
        registry = self._settings.registry
        if self._releases is None or registry is None:
            await asyncio.Event().wait()
            return
        while True:
            found = await self._releases.look(self._now(), self._twin.verified.release.sha256)
            async with self._one:
                changed = self._adopt(found)
            if changed:
                await self._say(self._twin.answers(self._now()))
            await self._flush()
            await asyncio.sleep(registry.every_s * (2 + 2 * self._chance()) / 3)

    def _adopt(self, found: Found) -> bool:
        """Do what follows from a look at the registry; whether another model answers, or none."""
        twin, now = self._twin, self._now()
        before = twin.silent
        if found.fault and found.lost:
            remedy = "The twin keeps its model. Look at the registry, and at the way to it."
            self._alerts.tell("model", "registry lost", "warning", found.fault, remedy=remedy)
        elif found.fault:
            remedy = "Nothing was installed. Ask whoever runs the registry what it offers, and who changed it."
            self._alerts.tell("model", "verification failed", "critical", found.fault, detail="offer", remedy=remedy)
        else:
            self._alerts.end(Key("model", "registry lost"))
            self._alerts.end(Key("model", "verification failed", "", "offer"))
        if found.verified is not None:
            try:
                adoption = twin.adopt(found.verified, now)
            except Exception as error:  # whatever is wrong with the new model, the one that runs goes on
                log.exception("adoption.failed")
                text = f"release {found.verified.release.version}: {error}"
                self._alerts.tell("model", "verification failed", "critical", text, detail="adopt")
            else:
                if adoption.fault:
                    text = f"release {adoption.release} is not adopted: {adoption.fault}"
                    self._alerts.tell("model", "fell back", "critical", text)
                else:
                    self._watch.begin()
                    self._alerts.tell("model", "swapped", "note", f"release {adoption.release} answers from now on")
        if twin.check(now) and not before:
            self._alerts.tell("model", "revoked", "critical", twin.silent)
            self._fall_back(twin.silent)
        self._tell_of_model()
        return found.verified is not None or bool(twin.silent) != bool(before)

    async def _verify(self) -> None:
        while True:
            await asyncio.sleep(self._settings.verify_every_h * 3600)
            async with self._one:
                fault = self._twin.verify_again(self._now())
            if fault:
                self._alerts.tell(
                    "model", "verification failed", "critical", fault, detail="own", remedy="twinseal pull"
                )
            else:
                self._alerts.end(Key("model", "verification failed", "", "own"))
            self._tell_of_model()


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
