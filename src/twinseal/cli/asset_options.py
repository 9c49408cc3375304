"""The options of `twinseal asset new`: how the files are written, what their columns are, and what no data say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

FILES, COLUMNS, MEANING = "The files", "The columns", "What no data say"
COLUMN, NAMED = "COLUMN", "COLUMN[=name]"


def _of(panel: str, words: str, metavar: str | None = None) -> Any:
    return typer.Option(help=words, metavar=metavar, rich_help_panel=panel)


From = Annotated[
    list[Path], typer.Option("--from", metavar="FILE", help="CSV or Parquet, or a folder. Again for more files.")
]
Replace = Annotated[bool, typer.Option("--replace", help="Propose the entries of this name anew.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the proposal; write no entry.")]

Files = Annotated[list[str] | None, _of(FILES, 'Which of a folder: "2025/*.csv".', "PATTERN")]
UnitInName = Annotated[str, _of(FILES, 'As "trafo-{unit}.csv".', "PATTERN")]
Source = Annotated[str, _of(FILES, "table, or cmapss for NASA's files.")]
Subset = Annotated[str, _of(FILES, "Of C-MAPSS.")]
Separator = Annotated[str | None, _of(FILES, "Between two cells.")]
Decimal = Annotated[str | None, _of(FILES, "In numbers: . or ,")]
Encoding = Annotated[str | None, _of(FILES, "Of the text.")]
MissingWord = Annotated[list[str] | None, _of(FILES, "A word for no value. Again for more.", "WORD")]

Unit = Annotated[str | None, _of(COLUMNS, "Names the machine.", COLUMN)]
Cycle = Annotated[str | None, _of(COLUMNS, "Counts 1, 2, 3, …", COLUMN)]
Time = Annotated[str | None, _of(COLUMNS, "Time stamps instead.", COLUMN)]
TimeFormat = Annotated[str | None, _of(COLUMNS, 'As "%d.%m.%Y %H:%M".', "FORM")]
Zone = Annotated[str | None, _of(COLUMNS, "Of the time stamps. Default: UTC.")]
CycleLength = Annotated[str | None, _of(COLUMNS, "Of a cycle: 10min, 1h, 1d.", "LENGTH")]
Gather = Annotated[str | None, _of(COLUMNS, "Of the rows in a cycle: mean, last, first.")]
Rul = Annotated[str | None, _of(COLUMNS, "Counts the remaining cycles.", COLUMN)]
EndsInFailure = Annotated[
    bool, typer.Option("--ends-in-failure", help="Every history ends with the failure.", rich_help_panel=COLUMNS)
]
EndUnknown = Annotated[
    bool, typer.Option("--end-unknown", help="Nobody knows: nothing can be trained.", rich_help_panel=COLUMNS)
]
Failures = Annotated[str | None, _of(COLUMNS, "Table of failures in the folder.", "FILE[:UNIT:TIME]")]
Replacements = Annotated[str | None, _of(COLUMNS, "Table of parts replaced.", "FILE[:UNIT:TIME]")]
Setting = Annotated[list[str] | None, _of(COLUMNS, "Is set by people. Again for more.", NAMED)]
Sensor = Annotated[list[str] | None, _of(COLUMNS, "Is measured. Again for more.", NAMED)]
Ignore = Annotated[list[str] | None, _of(COLUMNS, "Is left out. Again for more.", COLUMN)]

Model = Annotated[str, _of(MEANING, "Name of the model. Default: NAME-rul.")]
Description = Annotated[str, _of(MEANING, "What the machine is.")]
CycleIs = Annotated[str, _of(MEANING, "What one cycle is.", "TEXT")]
RulCap = Annotated[float | None, _of(MEANING, "Longer lives count as this.", "CYCLES")]
Keep = Annotated[list[str] | None, _of(MEANING, "Is healthy, though far from the others.", "UNIT")]
Like = Annotated[str, _of(MEANING, "Has the same channels: units and words.", "ASSET")]
