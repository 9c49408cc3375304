"""The options of `twinseal asset new`: how the files are written, what their columns are, and what no data say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

FILES, DATABASE, COLUMNS, MEANING = "The files", "Or a database", "The columns", "What no data say"
COLUMN, NAMED = "COLUMN", "COLUMN[=name]"


def _option(panel: str, words: str, metavar: str | None = None) -> Any:
    return typer.Option(help=words, metavar=metavar, rich_help_panel=panel)


From = Annotated[
    list[Path] | None,
    typer.Option("--from", metavar="FILE", help="CSV or Parquet, or a folder. Again for more files."),
]
Replace = Annotated[bool, typer.Option("--replace", help="Propose the entries of this name anew.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the proposal; write no entry.")]

Files = Annotated[list[str] | None, _option(FILES, 'Which of a folder: "2025/*.csv".', "PATTERN")]
UnitInName = Annotated[str, _option(FILES, 'As "trafo-{unit}.csv".', "PATTERN")]
Source = Annotated[str, _option(FILES, "table, or cmapss for NASA's files.")]
Connection = Annotated[str, _option(DATABASE, "Environment variable with its address.", "NAME")]
Query = Annotated[str, _option(DATABASE, "One SELECT.", "SQL")]
Subset = Annotated[str, _option(FILES, "Of C-MAPSS.")]
Separator = Annotated[str | None, _option(FILES, "Between two cells.")]
Decimal = Annotated[str | None, _option(FILES, "In numbers: . or ,")]
Encoding = Annotated[str | None, _option(FILES, "Of the text.")]
MissingWord = Annotated[list[str] | None, _option(FILES, "A word for no value. Again for more.", "WORD")]

Unit = Annotated[str | None, _option(COLUMNS, "Names the machine.", COLUMN)]
Cycle = Annotated[str | None, _option(COLUMNS, "Counts 1, 2, 3, …", COLUMN)]
Time = Annotated[str | None, _option(COLUMNS, "Time stamps instead.", COLUMN)]
TimeFormat = Annotated[str | None, _option(COLUMNS, 'As "%d.%m.%Y %H:%M".', "FORM")]
Zone = Annotated[str | None, _option(COLUMNS, "Of the time stamps. Default: UTC.")]
CycleLength = Annotated[str | None, _option(COLUMNS, "Of a cycle: 10min, 1h, 1d.", "LENGTH")]
Gather = Annotated[str | None, _option(COLUMNS, "Of the rows in a cycle: mean, last, first.")]
Rul = Annotated[str | None, _option(COLUMNS, "Counts the remaining cycles.", COLUMN)]
EndsInFailure = Annotated[
    bool, typer.Option("--ends-in-failure", help="Every history ends with the failure.", rich_help_panel=COLUMNS)
]
EndUnknown = Annotated[
    bool, typer.Option("--end-unknown", help="Nobody knows: nothing can be trained.", rich_help_panel=COLUMNS)
]
Failures = Annotated[str | None, _option(COLUMNS, "Table of failures in the folder.", "FILE[:UNIT:TIME]")]
Replacements = Annotated[str | None, _option(COLUMNS, "Table of parts replaced.", "FILE[:UNIT:TIME]")]
Setting = Annotated[list[str] | None, _option(COLUMNS, "Is set by people. Again for more.", NAMED)]
Sensor = Annotated[list[str] | None, _option(COLUMNS, "Is measured. Again for more.", NAMED)]
Ignore = Annotated[list[str] | None, _option(COLUMNS, "Is left out. Again for more.", COLUMN)]
Measured = Annotated[list[str] | None, _option(COLUMNS, "Is in this unit; and what it becomes.", "COLUMN=UNIT[:UNIT]")]
Scale = Annotated[list[str] | None, _option(COLUMNS, "Is multiplied, and added to.", "COLUMN=FACTOR[,OFFSET]")]

Model = Annotated[str, _option(MEANING, "Name of the model. Default: NAME-rul.")]
Description = Annotated[str, _option(MEANING, "What the machine is.")]
CycleIs = Annotated[str, _option(MEANING, "What one cycle is.", "TEXT")]
RulCap = Annotated[float | None, _option(MEANING, "Longer lives count as this.", "CYCLES")]
Keep = Annotated[list[str] | None, _option(MEANING, "Is healthy, though far from the others.", "UNIT")]
Like = Annotated[str, _option(MEANING, "Has the same channels: units, words, which are used.", "ASSET")]
