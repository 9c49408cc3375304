"""The parsers of what the twin keeps about what it has said: the alert book, and alerts that wait for a webhook."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.harness import Parser, holds
from tests.twin.outputs.messages import NOW, alert
from twinseal.errors import EvidenceError
from twinseal.twin.outputs.alert_book import AlertBook
from twinseal.twin.outputs.outbox import Outbox


def output_parsers(folder: Path) -> list[Parser]:
    """The book, and a letter as it lies in an outbox under the name that it has."""
    book = AlertBook()
    for item in (
        alert(),
        alert("frames refused", "warning", "forged"),
        alert("maintain now", kind="machine", unit="ü"),
    ):
        book.tell(item)
    place = folder / "outbox"
    outbox = Outbox(place, 10, lambda _: None)
    outbox.put(alert(), NOW)
    (letter,) = place.iterdir()

    def kept(data: bytes) -> None:
        found = AlertBook.from_bytes(data, "alerts.json")
        again = AlertBook.from_bytes(found.to_bytes(), "alerts.json")
        holds(again.to_bytes() == found.to_bytes(), "alert book: it does not go back in")

    def waits(data: bytes) -> None:
        letter.write_bytes(data)
        found = Outbox(place, 10, lambda _: None).first()
        if found is None:
            raise EvidenceError("outbox: expected an alert, got something else")
        holds(found.alert.id == alert().id, "outbox: another alert than its name says was taken")

    return [Parser("alert_book", (book.to_bytes(),), kept), Parser("alert_waits", (letter.read_bytes(),), waits)]
