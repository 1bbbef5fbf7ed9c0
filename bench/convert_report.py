"""Prints bench/convert.sh's results as a Markdown table: medians over the rounds."""

import statistics
import sys

LIMITS = {"six": 0.12, "qcow2": 0.45, "vmdk": 0.25, "read-qcow2": 0.6, "read-vmdk": 0.6}


def main() -> None:
    path, rounds = sys.argv[1], int(sys.argv[2])
    lines: dict[tuple[str, str], list[list[float]]] = {}
    for line in open(path, encoding="ascii"):
        case, party, *figures = line.split()
        lines.setdefault((case, party), []).append([float(f) for f in figures])
    print("| case | kexport s | qemu-img s | ratio | wanted | CPU s | qemu-img CPU s | MiB at peak | size ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for case in dict.fromkeys(case for case, _ in lines):
        ours = rounds_of(lines[case, "kexport"], rounds)
        theirs = rounds_of(lines[case, "qemu-img"], rounds)
        ratio = statistics.median(o[0] / t[0] for o, t in zip(ours, theirs))
        size = f"{ours[0][3] / theirs[0][3]:.3f}" if ours[0][3] else "–"
        print(
            f"| {case} | {median(ours, 0):.2f} | {median(theirs, 0):.2f} | {ratio:.3f} | ≤ {LIMITS.get(case, 1.0)} "
            f"| {median(ours, 1):.1f} | {median(theirs, 1):.1f} | {max(o[2] for o in ours) / 1024:.0f} | {size} |"
        )


def rounds_of(runs: list[list[float]], rounds: int) -> list[tuple[float, float, float, float]]:
    """Sums the commands of each round: wall, CPU seconds, KiB at peak, bytes."""
    per = len(runs) // rounds
    out = []
    for r in range(rounds):
        some = runs[r * per : (r + 1) * per]
        out.append(
            (
                sum(wall * factor for wall, _, _, _, _, factor in some),
                sum((user + system) * factor for _, user, system, _, _, factor in some),
                max(kib for _, _, _, kib, _, _ in some),
                sum(size for _, _, _, _, size, _ in some),
            )
        )
    return out


def median(rows: list[tuple[float, float, float, float]], column: int) -> float:
    return statistics.median(row[column] for row in rows)


main()
