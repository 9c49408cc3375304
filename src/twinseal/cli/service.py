"""What runs for years: the twin as a service."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinseal.cli.options import examples
from twinseal.console import UNANSWERED, err, printable

if TYPE_CHECKING:
    from twinseal.twin.outputs.alert import Alert
    from twinseal.twin.service.live import LiveTwin
    from twinseal.twin.service.settings import TwinSettings

twin = typer.Typer(
    help="The twin as a service: it takes telemetry, answers, and renews its model by itself.",
    epilog=examples("twinseal twin run --config /etc/twinseal/twin.yaml"),
    no_args_is_help=True,
)

Config = Annotated[Path, typer.Option("--config", metavar="FILE", help="Its settings: docs/operating.md.")]


@twin.command("run", epilog=examples("twinseal twin run --config twin.yaml"))
def run(config: Config = Path("twin.yaml")) -> None:
    """Answer telemetry until SIGTERM or Ctrl-C, or until every input has ended; then drain.

    The model must have been pulled: twinseal pull. New releases are then found by the service itself.
    """
    from twinseal.twin.service.settings import read_settings

    asyncio.run(_run(read_settings(config)))


@twin.command("check", epilog=examples("twinseal twin check --config twin.yaml"))
def check(config: Config = Path("twin.yaml")) -> None:
    """Read the settings, and verify the model that is installed; start nothing."""
    from twinseal.trust.root.anchor import Anchor
    from twinseal.twin.runtime import current_model
    from twinseal.twin.service.settings import read_settings

    settings = read_settings(config)
    verified = current_model(Path(settings.state), Anchor.read(Path(settings.anchor)), settings.model)
    err.print(f"{printable(verified.release.model)} release {verified.release.version} can run")
    for what, names in (("sources", settings.sources), ("outputs", settings.outputs)):
        err.print(f"{what}: {', '.join(printable(name) for name in names)}")


async def _run(settings: TwinSettings) -> None:
    from twinseal.trust.root.anchor import Anchor
    from twinseal.twin import locks
    from twinseal.twin.inputs.replay import Columns
    from twinseal.twin.inputs.settings import InputSettings, sources_of
    from twinseal.twin.metrics import Metrics
    from twinseal.twin.notify import Notifier
    from twinseal.twin.outputs.make import make_outputs
    from twinseal.twin.runtime import current_model
    from twinseal.twin.service.live import Limits, LiveTwin
    from twinseal.twin.service.releases import Releases, open_source
    from twinseal.twin.service.service import Service
    from twinseal.twin.state import State

    state, anchor, now = Path(settings.state), Anchor.read(Path(settings.anchor)), datetime.now(UTC)
    if not State(state).has_current():
        current_model(state, anchor, settings.model)  # says what is missing, and how to fetch it
    with ExitStack() as stack:
        for lock in ("service.lock", "frames.lock"):
            stack.enter_context(locks.only_one(state / lock, "twinseal twin run", now))
        asked = settings.limits
        limits = Limits(
            asked.max_apart_share, asked.max_newly_refused_share, asked.without_trust_h * 3600, asked.unsigned
        )
        live = LiveTwin(state, anchor, settings.model, now, limits)
        metrics = Metrics(lambda: datetime.now(UTC).timestamp())
        if settings.metrics is not None:
            stack.enter_context(metrics.served(settings.metrics.host, settings.metrics.port))
        releases = None
        if (registry := settings.registry) is not None:
            releases = Releases(
                lambda: open_source(registry.source, settings.model), anchor, settings.model, state, registry.timeout_s
            )
        outputs = make_outputs(settings.outputs, settings.model, state)
        service = Service(live, settings, outputs, releases, metrics, Notifier.from_environment(), say=_say_alert)
        columns = Columns(live.verified.model.contract.inputs, live.verified.mapping)
        service.listen_to(sources_of(InputSettings(sources=settings.sources), service.note_source, columns))
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, service.reopen)
        _say_start(live, settings)
        await service.run(stop)
        err.print("ended: what came is remembered")
    if dropped := {name: number for name, number in service.dropped.items() if number}:
        for name, count in dropped.items():
            err.print(f"[red]not delivered[/]  {printable(name)} did not take {count} messages")
        raise typer.Exit(UNANSWERED)


def _say_alert(alert: Alert) -> None:
    colour = "red" if alert.severity == "critical" else "yellow"
    err.print(f"[{colour}]{alert.about}[/]  {printable(alert.message)}")
    if alert.remedy:
        err.print(f"what to do  {printable(alert.remedy)}")


def _say_start(live: LiveTwin, settings: TwinSettings) -> None:
    release, names = live.verified.release, ", ".join(printable(name) for name in settings.sources)
    err.print(f"{printable(release.model)} release {release.version}: takes {names}; Ctrl-C or SIGTERM ends it")
    known = len({unit for answer in live.answers(datetime.now(UTC)) if (unit := live.machine(answer))})
    if live.lost:
        err.print(f"[red]the memory of units is lost[/]: {printable(live.lost)}")
    elif known:
        err.print(f"goes on with {known} {'machine' if known == 1 else 'machines'} that it knows")
    if live.silent:
        err.print(f"[red]every machine is to be inspected[/]: {printable(live.silent)}")
