"""Settings of a twin that runs: `twin.yaml`.

Example:
    model: pump-rul
    anchor: /etc/twinseal/anchor
    state: /var/lib/twinseal-twin
    registry: {source: https://mlflow.plant.example, every_s: 600}
    sources:
      plant: {kind: mqtt, …}                                    # inputs/settings.py
    outputs:
      journal: {kind: lines, path: "-"}                         # outputs/settings.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twinseal.config import MAX_BYTES, Field, Settings, parse, parse_yaml
from twinseal.errors import ConfigError, suggest
from twinseal.reading import read_regular
from twinseal.twin.inputs.settings import InputSettings, SourceSettings
from twinseal.twin.outputs.settings import LinesSettings, OutputSettings, check_outputs


class RegistrySettings(Settings):
    """Where new releases come from.

    Attributes:
        source: MLflow's address, or the folder of a mirror.
        every_s: Seconds between two looks, on average: each is up to a third earlier or later, so that the twins of a
            fleet do not ask together.
        timeout_s: A look that takes longer has failed.
    """

    source: str = Field(min_length=1)
    every_s: float = Field(default=600.0, ge=1.0, le=7 * 86_400.0)
    timeout_s: float = Field(default=600.0, ge=1.0, le=86_400.0)


class LimitSettings(Settings):
    """What the operator allows.

    Attributes:
        max_apart_share: Of the machines, on which a new model may disagree with the one that runs: neither's estimate
            is within the other's 90 % interval.
        max_newly_refused_share: Of the machines, that may lose their estimate by a new model.
        watch_rows: After a new model has begun to answer, so many rows are watched.
        max_refused_rise: By how much the share of refused rows may rise among them.
        without_trust_h: So many hours after its trust has ended the model still answers; then every machine is to be
            inspected.
        unsigned: Whether rows that nobody signed are answered where devices are enrolled: of machines that none of
            them delivers.
        silent_after_s: A machine that is not heard for so long is an alert; 0: never.
    """

    max_apart_share: float = Field(default=0.1, ge=0.0, le=1.0)
    max_newly_refused_share: float = Field(default=0.05, ge=0.0, le=1.0)
    watch_rows: int = Field(default=1000, ge=0, le=1_000_000)
    max_refused_rise: float = Field(default=0.1, ge=0.0, le=1.0)
    without_trust_h: float = Field(default=168.0, ge=0.0, le=87_600.0)
    unsigned: bool = False
    silent_after_s: float = Field(default=0.0, ge=0.0, le=31_536_000.0)


class MetricsSettings(Settings):
    """Metrics for Prometheus, on this machine alone.

    Attributes:
        host: The address to listen on; a loopback one.
        port: The port.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=9464, ge=0, le=65535)


class TwinSettings(Settings):
    """All of it.

    Attributes:
        model: Which model, e.g. pump-rul.
        anchor: The folder of the root that the twin was installed with.
        state: The twin's own folder.
        sources: Where telemetry comes from, by name.
        outputs: Where answers and alerts go, by name.
        registry: Where new releases come from; None: they are brought by hand (`twinseal pull`).
        limits: What the operator allows.
        metrics: None: there are none.
        verify_every_h: Hours between two verifications of the model that runs.
        drain_s: At the end, at most so long: half for the delivery being answered, half for what waits for outputs.

    Raises:
        ValueError: Sources or outputs do not fit together.
    """

    model: str = Field(min_length=1)
    anchor: str = Field(min_length=1)
    state: str = Field(min_length=1)
    sources: dict[str, SourceSettings]
    outputs: dict[str, OutputSettings]
    registry: RegistrySettings | None = None
    limits: LimitSettings = LimitSettings()
    metrics: MetricsSettings | None = None
    verify_every_h: float = Field(default=24.0, gt=0.0, le=8760.0)
    drain_s: float = Field(default=20.0, ge=0.0, le=3600.0)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a twin that hears or says nothing."""
        if not self.outputs:
            raise ValueError("outputs: expected at least one, got none")
        InputSettings(sources=self.sources)
        state = Path(self.state).resolve()
        for name, item in self.outputs.items():
            place = Path(item.path).resolve() if isinstance(item, LinesSettings) else Path("/")
            if place.is_relative_to(state) and not place.name.endswith((".jsonl", ".log")):
                raise ValueError(
                    f"outputs.{name}: expected a file outside of the twin's own state, or called *.jsonl, "
                    f"got {place.name}"
                )
        check_outputs(self.outputs)


def read_settings(path: Path) -> TwinSettings:
    """The settings in a file.

    Raises:
        ConfigError: It is missing, or a value is not allowed.
    """
    try:
        data = read_regular(path, MAX_BYTES, follow=True)
    except OSError as error:
        raise ConfigError(
            f"{path}: expected the twin's settings, got none ({error.strerror})",
            remedy="Name them: --config FILE. What is in them: docs/twin.md",
        ) from error
    with suggest(f"Correct the file; then look at it: twinseal twin check --config {path}"):
        return parse(TwinSettings, parse_yaml(data, str(path)), str(path))
