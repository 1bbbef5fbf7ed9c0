"""Prints bench/zfs.sh's results as Markdown tables: medians, and ratios of pairs."""

import statistics
import sys

COLUMNS = ("wall", "user", "system", "kib", "stored")
# of kldload's median over mke2fs's, or of kldload's own
RATIOS = {("tree", "wall"): 0.7, ("tree", "stored"): 0.6}
LIMITS = {
    ("files-dir", "wall"): 60,
    ("files-dir", "kib"): 1 << 20,
    ("files-tar", "wall"): 60,
    ("files-tar", "kib"): 1 << 20,
    ("build", "wall"): 15,
}
SHOWN = {"wall": ("s", 1), "kib": ("MiB at peak", 1024), "stored": ("MiB stored", 1 << 20)}


def main() -> None:
    runs: dict[tuple[str, str], list[dict[str, float]]] = {}
    with open(sys.argv[1], encoding="ascii") as lines:
        for line in lines:
            case, party, *figures = line.split()
            runs.setdefault((case, party), []).append(dict(zip(COLUMNS, map(float, figures))))
    print("| case | party | runs | median s | min s | max s | CPU s | MiB at peak | MiB stored |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for (case, party), some in runs.items():
        wall = [r["wall"] for r in some]
        cpu = statistics.median(r["user"] + r["system"] for r in some)
        print(
            f"| {case} | {party} | {len(some)} | {statistics.median(wall):.2f} | {min(wall):.2f} | {max(wall):.2f} "
            f"| {cpu:.1f} | {max(r['kib'] for r in some) / 1024:.0f} | {median(some, 'stored') / 2**20:.0f} |"
        )
    print("\n| what | is | wanted |\n|---|---:|---:|")
    for (case, column), most in RATIOS.items():
        if (case, "kldload") in runs and (case, "mke2fs") in runs:
            # round by round, so that what slows the machine down slows both
            pairs = zip(runs[case, "kldload"], runs[case, "mke2fs"])
            print(f"| {case}: {column}, kldload / mke2fs | {statistics.median(o[column] / t[column] for o, t in pairs):.3f} | ≤ {most} |")
    for (case, column), most in LIMITS.items():
        if (case, "kldload") in runs:
            unit, by = SHOWN[column]
            print(f"| {case}: {unit} | {median(runs[case, 'kldload'], column) / by:.1f} | ≤ {most / by:.0f} |")


def median(some: list[dict[str, float]], column: str) -> float:
    return statistics.median(r[column] for r in some)


main()
