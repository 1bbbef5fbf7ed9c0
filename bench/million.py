"""Makes a tree of a million files of 1 KiB, or a tar of the same.

    million.py dir FOLDER | million.py tar FILE

800 folders have 1,000 files each, one has 200,000. No two files are alike; half
of each is text that compresses.
"""

import io
import os
import random
import sys
import tarfile

TIME = 1_700_000_000


def files():
    """Yields folder, name and content."""
    noise = random.Random(4).randbytes(1 << 20)
    for i in range(1_000_000):
        folder = f"{i // 1000 // 40:02}/{i // 1000:03}" if i < 800_000 else "large"
        text = f"file {i} of a million, ".encode() * 30
        at = i * 7919 % (len(noise) - 512)
        yield folder, f"file-{i:07}.txt", text[:512] + noise[at : at + 512]


def write_dir(top: str) -> None:
    last = None
    for folder, name, content in files():
        path = os.path.join(top, folder)
        if folder != last:
            os.makedirs(path, exist_ok=True)
            last = folder
        fd = os.open(os.path.join(path, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, content)
        os.close(fd)


def write_tar(name: str) -> None:
    seen = set()
    with tarfile.open(name, "w", format=tarfile.PAX_FORMAT) as out:
        for folder, file, content in files():
            parts = folder.split("/")
            for i in range(len(parts)):
                sub = "/".join(parts[: i + 1])
                if sub not in seen:
                    seen.add(sub)
                    out.addfile(entry(sub, 0o755, tarfile.DIRTYPE))
            info = entry(f"{folder}/{file}", 0o644, tarfile.REGTYPE)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
            out.members = []  # else a million of them stay in memory


def entry(name: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.mtime = mode, kind, TIME
    return info


if __name__ == "__main__":
    {"dir": write_dir, "tar": write_tar}[sys.argv[1]](sys.argv[2])
