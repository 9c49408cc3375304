"""Policy: what policy/ says about the asset in hand, one file for each file that stages obey. Signs nothing.

Reads policy/ and the name of the asset in params.yaml. Writes data/policy/: what the other stages depend on in place of
policy/, so that DVC runs none of them again for an entry of another asset, a comment, or a mark that was lifted. They
read policy/ itself: this folder decides when they run, never by what.
"""

from __future__ import annotations

from pathlib import Path

from twinseal.config import load, read_yaml
from twinseal.console import out, printable, run_stage
from twinseal.files import write_whole
from twinseal.policy_entries import DIVIDED, part_bytes
from twinseal.telemetry.contract import AssetParams

POLICY, PARTS = Path("policy"), Path("data/policy")


def main() -> None:
    """Divide, write."""
    asset = load(AssetParams, Path("params.yaml"), section="data").asset
    for name in DIVIDED:
        write_whole(PARTS / f"{Path(name).stem}.json", part_bytes(read_yaml(POLICY / name), asset))
    out.print(f"policy: the entries for '{printable(asset)}' in {', '.join(DIVIDED)}")


if __name__ == "__main__":
    run_stage(main)
