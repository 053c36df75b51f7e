"""The files that hold a bank's records, one a line."""
from __future__ import annotations

import json
import os
import re
import socket
import uuid
import zlib
from pathlib import Path

Place = tuple[str, int, int]  # shard, offset, length
_GENERATION = re.compile(r'\.g(\d+)\.masks$')


def generation_of(shard: str) -> int:
    """Of a shard's records, by its name."""
    found = _GENERATION.search(shard)
    return int(found[1]) if found else 0


class ShardWriter:
    """The one process that appends to a new shard."""

    def __init__(self, root: Path, generation: int = 0) -> None:
        self.pid, self.generation = os.getpid(), generation
        host = ''.join(c if c.isalnum() else '-' for c in socket.gethostname())[:32]
        end = f'.g{generation}.masks' if generation else '.masks'
        self.path = root / f'shard-{host}-{self.pid}-{uuid.uuid4().hex[:12]}{end}'
        self._shard = open(self.path, 'xb', buffering=0)
        self._index = open(self.path.with_suffix('.index'), 'xb', buffering=0)
        self._end = 0

    def append(self, image_id: str, text: bytes) -> Place:
        """Write a record; on return it is on the disk, at the place returned."""
        line = b'%08x %s\n' % (zlib.crc32(text), text)
        try:
            written = 0
            while written < len(line):
                written += self._shard.write(line[written:])
            os.fsync(self._shard.fileno())
        except OSError as error:
            # Take the half line back, so that the next record does not start inside it.
            self._shard.truncate(self._end)
            self._shard.seek(self._end)
            raise OSError(error.errno, f'cannot add {image_id!r} to mask bank {self.path}: {error.strerror}. What was '
                                       f'stored before is intact', str(self.path)) from error
        place = (self.path.name, self._end, len(line))
        self._end += len(line)
        try:
            self._index.write(json.dumps([image_id, place[1], place[2]]).encode() + b'\n')
        except OSError:
            pass  # the record itself is safe, and readers find it without the index
        return place

    def close(self) -> None:
        """Nothing more is appended."""
        self._shard.close()
        self._index.close()


def read_record(root: Path, place: Place, most: int | None = None) -> bytes:
    """The line at a place, or its first ``most`` bytes."""
    name, offset, length = place
    with open(root / name, 'rb', buffering=0) as file:  # one read: behind a network, each costs a journey
        file.seek(offset)
        return file.read(length if most is None else min(length, most))
