"""Take the laboratory's results into the repository, and write them into docs/laboratory.md.

    worldplan lab all --scale cpu
    python benchmarks/laboratory_page.py [--results runs/laboratory]

Copies NAME.json, NAME.md and NAME.png of each experiment that is done to benchmarks/results/laboratory, and replaces
what follows the marker in docs/laboratory.md by the sections there. Without --results it only writes the page.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

from worldplan.eval.laboratory.registry import EXPERIMENTS

REPO = Path(__file__).resolve().parents[1]
RESULTS, PAGE = REPO / "benchmarks/results/laboratory", REPO / "docs/laboratory.md"
MARKER = "<!-- What follows is written by benchmarks/laboratory_page.py. -->\n"
KINDS = "json", "md", "png"


def done(folder: Path) -> list[str]:
    """Experiments with results of scale cpu in a folder, in the order of the laboratory."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}
    return [name for name in EXPERIMENTS if found.get(name, {}).get("scale") == "cpu"]


def page(text: str, folder: Path) -> str:
    """The page with the sections of a folder of results after its marker; pictures stay where they are."""
    before, marker, _ = text.partition(MARKER)
    if not marker:
        raise ValueError(f"{PAGE.name} has no marker: {MARKER.strip()}")
    sections = [(folder / f"{name}.md").read_text(encoding="utf-8") for name in done(folder)]
    place = Path("..") / RESULTS.relative_to(REPO)
    own = [
        re.sub(r"^#", "##", section, flags=re.MULTILINE).replace(f"]({name}.png)", f"]({place}/{name}.png)")
        for name, section in zip(done(folder), sections, strict=True)
    ]
    return "\n".join([before + marker, *own]).rstrip("\n") + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="folder of worldplan lab to take from")
    results = parser.parse_args().results
    if results:
        RESULTS.mkdir(exist_ok=True)
        for name in done(results):
            for kind in KINDS:
                shutil.copyfile(results / f"{name}.{kind}", RESULTS / f"{name}.{kind}")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")
    print(f"{PAGE.relative_to(REPO)}: {', '.join(done(RESULTS))}")


if __name__ == "__main__":
    main()
