"""Who is calling, among 10,000 keys: `access.authenticate` next to a bare look-up by index in the same SQLite file.

    python benchmarks/keys.py [--keys 10000] [--lookups 2000]

Last line: JSON with medians in milliseconds and their ratio.
"""

import argparse
import dataclasses
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from finery import bootstrap
from finery.control import access
from finery.core.access import Key, Level, digest, new_secret
from finery.core.roles import Role
from finery.settings import Settings
from finery.storage import access as storage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--lookups", type=int, default=2_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), options.keys, options.lookups)))


def measure(home: Path, keys: int, lookups: int) -> dict[str, float]:
    plane = bootstrap.control_plane(Settings(home=home))
    admin = access.authenticate(plane, (home / "admin.key").read_text().strip())
    key = Key(
        id="", project_id=admin.project.id, name="k", hint="", role=Role.READER, level=Level.PROJECT, created_at=1
    )
    secrets = [new_secret() for _ in range(keys)]
    with plane.database.write() as connection:
        for number, secret in enumerate(secrets):
            storage.insert_key(connection, dataclasses.replace(key, id=f"key_{number}"), digest(secret))
    asked = random.Random(0).choices(secrets, k=lookups)
    bare = sqlite3.connect(home / "finery.db")
    query = "SELECT * FROM keys WHERE digest = ?"
    ours, theirs = [], []
    # In turns, so that whatever else the machine does meets both.
    for secret in asked:
        ours.append(timed(lambda: access.authenticate(plane, secret)))  # noqa: B023 - called at once
        theirs.append(timed(lambda: bare.execute(query, (digest(secret),)).fetchone()))  # noqa: B023 - called at once
    bare.close()
    plane.database.close()
    median, peer = 1000 * statistics.median(ours), 1000 * statistics.median(theirs)
    return {
        "keys": keys,
        "authenticate_ms": round(median, 3),
        "sqlite_ms": round(peer, 3),
        "ratio": round(median / peer, 1),
    }


def timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
