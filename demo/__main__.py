"""The whole story on one machine, with throw-away keys: `make demo`, or `make cmapss DATA=<folder> SUBSET=FD001`.

Nothing here is simulated but the fleet: each step is the command that an ML engineer, a reviewer, or a twin's
operator would type, and is printed before it runs. The attackers edit files in MLflow's artifact store, as whoever owns
the server can, and what a gateway sends, as whoever owns the network can.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from demo import acts
from demo.cmapss import SUBSETS, Engines
from demo.stage_hand import Server, StoryError, say, write_transcript


def main() -> int:
    """Tell the story. Returns 0 when every act ended as it should: also the attacks, refused."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="C-MAPSS: the folder or zip with train, test and RUL of the subset")
    parser.add_argument("--subset", choices=SUBSETS, default="FD001", help="of C-MAPSS (default FD001)")
    options = parser.parse_args()
    engines = Engines(SUBSETS[options.subset], options.data) if options.data else None
    if engines and not engines.are_there:
        wanted = f"expected a folder with train_{options.subset}.txt, or NASA's zip"
        say(f"{options.data}: {wanted}, got neither; nothing was changed")
        return 2
    began = time.monotonic()
    try:
        if engines and acts.propose(engines):
            acts.first_keys()
            acts.judge_what_is_proposed(engines)
            return 0
        acts.first_keys()
        acts.build(engines)
        with Server() as server:
            acts.approve_and_register()
            url = server.address()
            acts.twin_pulls(url)
            recording = acts.attacker_records()
            acts.second_release()
            acts.attacker_changes_a_byte(url)
            acts.twin_pulls_again(url)
            acts.attacker_replays(url, recording)
            acts.twin_still_predicts()
            acts.man_in_the_middle(url)
    except StoryError as failure:
        say(f"[bold red]the demo stopped:[/] {failure}")
        return 1
    except KeyboardInterrupt:
        say("[yellow]interrupted[/]: run the same command again; what was finished is kept")
        return 130
    acts.where_to_look(time.monotonic() - began)
    write_transcript()
    return 0


if __name__ == "__main__":
    sys.exit(main())
